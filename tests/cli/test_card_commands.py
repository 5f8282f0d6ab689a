import hashlib
import json
from dataclasses import replace

import pytest

from bedside.bundle import read_bundle, shipped_bundles, write_bundle
from bedside.cli.main import main
from bedside.cli.models import _lines, describe
from bedside.runtime import autotune, open_session
from bedside.runtime.fastest import Fastest, Timing
from models_for_tests import make_bundle, make_verdict


def test_inspect_prints_provenance_accuracy_limits_and_disclaimer(bundle, capsys):
    assert main(["inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    for told in (digest, "CC0 <test>", "0.912", "0.880-0.940", "Dark structures", "Research use"):
        assert told in text


def test_inspect_as_json_holds_card_and_spec(bundle, capsys):
    assert main(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] is True
    assert found["dice"] == {"LV cavity": 0.9123, "LV myocardium": 0.9123, "Left atrium": 0.9123}
    assert found["card"]["limits"] == ["Dark structures are not seen."]
    assert found["spec"]["labels"][0]["type"]["value"] == "87878005"
    assert found["split"] == {"train": 2, "val": 1, "test": 1}


def test_inspect_refuses_a_damaged_bundle_and_names_it(bundle, tmp_path, capsys):
    damaged = tmp_path / "damaged.bedside"
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    assert main(["inspect", str(damaged)]) == 3
    assert "damaged.bedside" in capsys.readouterr().err


def test_inspect_says_loudly_that_weights_are_random(untrained, capsys):
    assert main(["inspect", str(untrained)]) == 0
    assert "UNTRAINED" in capsys.readouterr().out


def test_what_figures_were_taken_over_is_named(bundle, tmp_path, capsys):
    sound = read_bundle(bundle)
    structures = (
        replace(sound.card.structures[0], cases=1, absent=3, false_alarms=2),
        *sound.card.structures[1:],
    )
    card = replace(
        sound.card, structures=structures, test_cases=4, unit="exams", units=3, split_unit="exams"
    )
    path = tmp_path / "rare.bedside"
    graphs = {name: sound.read_graph(name) for name in sound.precisions}
    write_bundle(path, spec=sound.spec, card=card, graphs=graphs, split=sound.split)
    assert read_bundle(path).card == card
    assert main(["inspect", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "LV cavity: in 1 of 4 images; drawn in 2 of the 3 without it" in text
    tested = f"4 test images of {card.patients[2]} exam"
    assert f"Accuracy on {tested}" in text
    assert tested in "\n".join(_lines(read_bundle(path)))


def test_models_lists_what_is_shipped(capsys):
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["models"]
    assert [entry["path"] for entry in found] == [str(path) for path in shipped_bundles()]
    assert all(entry["license"] and entry["bytes"] > 0 for entry in found)
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert all(entry["name"] in printed for entry in found)


def test_a_model_s_lines_tell_task_size_accuracy_and_licence(bundle, untrained):
    text = "\n".join(_lines(read_bundle(bundle)))
    for told in ("Whatever is not black", "US", "8 parameters", "LV cavity 0.912", "CC0 <test>"):
        assert told in text
    assert describe(read_bundle(bundle))["bytes"] == bundle.stat().st_size
    text = "\n".join(_lines(read_bundle(untrained)))
    assert "UNTRAINED" in text
    assert "not measured" in text


def test_inspect_and_models_say_which_backends_are_certified(tmp_path, capsys):
    failed = make_verdict("int8", passed=False, backend="onnxruntime")
    path = make_bundle(tmp_path, make_verdict("f32"), failed, int8=True).path
    assert main(["inspect", str(path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Structure", "f32", "int8"] in rows
    assert ["Largest", "loss", "0.0000", "0.1000"] in rows
    assert ["Certified", "yes", "no"] in rows
    assert main(["models", str(path), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["models"]
    assert entry["certified"] == ["openvino f32"]


def test_retune_times_what_is_certified_prints_it_and_remembers(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    timing = Timing(2.5, 2.4, 2.6, 9)
    monkeypatch.setattr(
        autotune, "find_fastest",
        lambda calls, *, total_s: Fastest("onnxruntime f32", dict.fromkeys(calls, timing)),
    )  # fmt: skip
    verdicts = make_verdict("f32"), make_verdict("f32", backend="onnxruntime")
    bundle = make_bundle(tmp_path, *verdicts)
    assert main(["models", str(bundle.path), "--retune", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    rows = [line.split() for line in told.splitlines()]
    assert ["openvino", "f32", "2.500", "2.400-2.600", "9"] in rows
    assert "tiny runs in onnxruntime f32 here" in told
    monkeypatch.setattr(
        autotune, "find_fastest", lambda *args, **kwargs: pytest.fail("timed again")
    )
    assert open_session(bundle, threads=1).backend == "onnxruntime"


def test_retune_as_json_names_what_is_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = make_bundle(tmp_path, make_verdict("f32"))
    assert main(["models", str(bundle.path), "--retune", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"][0]["precision"] == "f32"
    assert found["models"][0]["decided"] is True
    assert found["threads"] >= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "2"], "go with --retune"),
        (["--backend", "onnxruntime"], "go with --retune"),
        (["--retune", "--threads", "0"], "--threads is 0"),
        (["--retune", "--backend", "tpu"], 'no backend "tpu"'),
    ],
)
def test_options_of_retune_are_checked(bundle, capsys, words, said):
    assert main(["models", str(bundle), *words]) == 2
    assert said in capsys.readouterr().err

"""What planted artefacts cost and what a confidence catches, as cards hold and print them."""

import dataclasses

import pytest

from bedside.bundle import read_bundle, write_bundle, write_with_card, write_with_confidence
from bedside.cli.main import main
from bedside.evaluation.looks import LEDGER, read_looks
from bedside.spec import CropFan, Fit, Grey, ScalePercentile
from bedside.spec.card import ConfidenceResult
from models_for_tests import make_card, make_graph, make_spec, make_verdict
from runs_for_tests import make_camus

PATIENTS = [f"patient{number:04d}" for number in range(1, 5)]
SPLIT = {"train": PATIENTS[:1], "val": PATIENTS[1:2], "test": PATIENTS[2:]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_camus(tmp_path_factory.mktemp("data"), patients=4)


@pytest.fixture
def bundle(tmp_path):
    spec = dataclasses.replace(
        make_spec(), preprocess=(Grey(), CropFan(), Fit(), ScalePercentile())
    )
    path = tmp_path / "old.bedside"
    card = make_card(make_verdict("f32"), untrained=False)
    write_bundle(path, spec=spec, card=card, graphs={"f32": make_graph()}, split=SPLIT)
    return path


def test_certify_puts_artefacts_on_the_card_and_inspect_prints_them(bundle, data, tmp_path, capsys):
    output = tmp_path / "new.bedside"
    command = ["certify", str(bundle), "--data", str(data), "-o", str(output), "--threads", "1"]
    assert main(command) == 0
    assert read_bundle(output).card.robustness == ()
    assert main([*command, "--robustness"]) == 0
    card = read_bundle(output).card
    names = [each.artefact for each in card.robustness]
    assert "two shadows of 25 deg" in names
    assert all(len(each.loss) == len(make_spec().labels) for each in card.robustness)
    capsys.readouterr()
    assert main(["inspect", str(output)]) == 0
    told = capsys.readouterr().out
    assert "planted artefact" in " ".join(told.split())
    assert all(name.split()[0] in told for name in names)


def test_no_figure_of_test_patients_is_written_that_the_ledger_does_not_hold(
    bundle, data, tmp_path, capsys
):
    (tmp_path / LEDGER).write_text("not the record of a look\n")
    output = tmp_path / "new.bedside"
    command = ["certify", str(bundle), "--data", str(data), "-o", str(output), "--threads", "1"]
    assert main([*command, "--robustness"]) == 3
    assert "is not the record of a look" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.bedside", LEDGER]
    (tmp_path / LEDGER).unlink()
    assert main([*command, "--robustness"]) == 0
    (look,) = read_looks(tmp_path / LEDGER)
    assert (look.what, look.sha256) == ("certify --robustness", read_bundle(output).sha256)


def test_a_card_says_what_a_confidence_catches_until_it_is_calibrated_anew(
    bundle, tmp_path, capsys
):
    old, output = read_bundle(bundle), tmp_path / "new.bedside"
    name = make_spec().labels[0].name
    found = ConfidenceResult(name, (0.62, 0.65), (0.32, 0.26), (0.004, 0.007), (0.905, 0.896))
    write_with_card(output, old, dataclasses.replace(old.card, confidence=(found,)))
    assert read_bundle(output).card.confidence == (found,)
    assert main(["inspect", str(output)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "62% / 65%" in told
    assert "0.32 / 0.26" in told
    write_with_confidence(tmp_path / "other.bedside", read_bundle(output), None)
    assert read_bundle(tmp_path / "other.bedside").card.confidence == ()

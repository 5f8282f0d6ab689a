"""`bedside evaluate` from the command line to its files, with a real bundle and a real runtime.

The bundle's network is one 1 x 1 convolution that tells the squares of `oracle` by their
brightness (20, 80, 140), so that every case is segmented exactly, and a truth that is moved
by 3 of 10 columns must score a Dice of 0.7.
"""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from oracle import LABELS, SHAPE, square_labels, write_camus, write_nifti
from PIL import Image

from bedside.bundle import read_bundle, write_bundle
from bedside.cli.main import main
from bedside.spec import (
    Card,
    DeploymentSpec,
    Fit,
    Grey,
    InputSpec,
    KeepLargest,
    LevelSpec,
    ModelSpec,
    PrecisionResult,
    ScalePercentile,
)
from layout_makers import write_png

SPLIT = {"train": ("patient0001",), "val": ("patient0002",), "test": ("patient0003",)}


def brightness_network() -> bytes:
    """Make a graph with logits 0, x - 0.35 and 2 x - 1.13: label 1 from 0.35, 2 from 0.78 on."""
    onnx = pytest.importorskip("onnx")
    shapes = {"image": [1, 1, *SHAPE], "logits": [1, 3, *SHAPE]}
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    weights = {
        "slope": np.array([0, 1, 2], np.float32).reshape(3, 1, 1, 1),
        "offset": np.array([0, -0.35, -1.13], np.float32),
    }
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", *weights], ["logits"])],
        "brightness",
        [image],
        [logits],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 18)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    level = LevelSpec(block="conv", channels=1, depth=1)
    spec = DeploymentSpec(
        name="squares",
        version="1",
        task="Squares told by their brightness",
        input=InputSpec(modality="US", channels=1, size_px=SHAPE),
        labels=LABELS,
        # Pixels are four times as wide as high: the network takes them one by one all the same.
        preprocess=(Grey(), Fit(stretch=4.0), ScalePercentile()),
        model=ModelSpec("brightness", 1, 3, levels=(level,), logit_stride=1),
        postprocess=(KeepLargest(),),
    )
    card = Card(
        data="squares", source="ours", license="CC0", patients=(1, 1, 1), test_cases=2,
        structures=(), precisions=(PrecisionResult("f32", (1.0, 1.0), 0.0, True),),
        parameters=6, gmac=0.0, seed=0, epochs=0, commit="none",
        created="2026-01-01",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bundle") / "squares.bedside"
    write_bundle(path, spec=spec, card=card, graphs={"f32": brightness_network()}, split=SPLIT)
    return path


def test_patients_that_the_data_lack_are_told(bundle, data, tmp_path, capsys):
    wide = tmp_path / "wide.bedside"
    read = read_bundle(bundle)
    split = {**SPLIT, "test": ("patient0003", "patient0004", "patient0005")}
    write_bundle(
        wide, spec=read.spec, card=read.card, graphs={"f32": brightness_network()}, split=split
    )
    command = ["evaluate", str(wide), str(data), "-o", str(tmp_path / "out"), "--split", "test"]
    assert main([*command, "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [text for text in warnings if "lack 2 of the 3 patients in the part test" in text]
    assert main([*command[:1], str(bundle), *command[2:], "--json"]) == 0
    assert not [text for text in json.loads(capsys.readouterr().out)["warnings"] if "lack" in text]


@pytest.fixture
def data(tmp_path):
    names = [f"patient000{number}" for number in (1, 2, 3)]
    folder = write_camus(tmp_path / "squares", dict.fromkeys(names, (0, 0)))
    moved = folder / "patient0003" / "patient0003_4CH_ES_gt.nii.gz"
    write_nifti(moved, square_labels(shift=3))
    return folder


def evaluate(capsys, *arguments):
    """Run the verb in this process; give its exit code, and what it wrote to stdout, stderr."""
    code = main(["evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_case_is_scored_and_written(bundle, data, tmp_path, capsys):
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path / "out")
    assert code == 0
    assert "inner" in out
    assert "Not a medical device" in " ".join(out.split())
    files = {file.name for file in (tmp_path / "out").iterdir()}
    written = {"evaluation.json", "evaluation.csv", "evaluation.md", "worst_cases.png"}
    assert files == {*written, "test_looks.jsonl"}
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["bundle"]["name"] == "squares"
    assert [structure["name"] for structure in found["structures"]] == ["inner", "outer"]
    for structure in found["structures"]:
        assert structure["dice"]["mean"] == pytest.approx((5 * 1 + 0.7) / 6)
        assert structure["hd_mm"]["mean"] == pytest.approx(3 * 2.0 / 6)
    assert len(found["cases"]) == 6
    text = " ".join(found["warnings"])
    assert "2 of 6 cases were trained on" in text
    assert "2 of 6 cases chose the weights" in text
    with Image.open(tmp_path / "out" / "worst_cases.png") as picture:
        assert picture.width > 1000


def test_the_test_part_of_the_split_is_scored_alone_and_without_warning(
    bundle, data, tmp_path, capsys
):
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path, "--split", "test", "--json")
    assert code == 0
    found = json.loads(out)
    assert {case["patient"] for case in found["cases"]} == {"patient0003"}
    known = ("needs at least 8 patients", "4.00 times as wide as high")
    assert not [text for text in found["warnings"] if not any(each in text for each in known)]
    assert found["structures"][0]["dice"] == {
        "mean": pytest.approx(0.85),
        "low": None,
        "high": None,
    }


def test_a_test_image_that_was_trained_on_under_another_name_is_left_out(
    bundle, data, tmp_path, capsys
):
    copy = data / "patient0003" / "patient0003_4CH_ED.nii.gz"
    copy.write_bytes((data / "patient0001" / "patient0001_4CH_ED.nii.gz").read_bytes())
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path, "--split", "test", "--json")
    assert code == 0
    found = json.loads(out)
    assert [case["case"] for case in found["cases"]] == ["patient0003_4CH_ES"]
    assert found["warnings"][0] == (
        "patient0003_4CH_ED is left out of test: patient0001_4CH_ED and patient0003_4CH_ED are "
        "the same image, and patient0001_4CH_ED is in train."
    )


def test_looks_at_the_test_part_are_counted_over_folders(bundle, data, tmp_path, capsys):
    (tmp_path / "test_looks.jsonl").touch()
    for number, said in enumerate(("the first look", "look 2", "look 3")):
        output = tmp_path / f"out{number}"
        code, out, _ = evaluate(capsys, bundle, data, "-o", output, "--split", "test")
        assert code == 0
        assert said in " ".join(out.split())
    looks = [json.loads(each) for each in (tmp_path / "test_looks.jsonl").read_text().splitlines()]
    assert [(look["what"], look["cases"]) for look in looks] == [("evaluate", 2)] * 3
    assert looks[0]["dice"]["inner"] == pytest.approx(0.85)
    assert looks[0]["sha256"] == read_bundle(bundle).sha256
    assert looks[0]["bedside"]


def test_patients_outside_of_the_test_part_are_no_look(bundle, data, tmp_path, capsys):
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path, "--split", "val", "--json")
    assert (code, json.loads(out)["looks"]) == (0, None)
    assert not (tmp_path / "test_looks.jsonl").exists()


def test_a_named_ledger_is_used_and_a_damaged_one_refused(bundle, data, tmp_path, capsys):
    options = [bundle, data, "-o", tmp_path / "out", "--ledger", tmp_path / "mine.jsonl"]
    assert evaluate(capsys, *options, "--split", "test")[0] == 0
    assert len((tmp_path / "mine.jsonl").read_text().splitlines()) == 1
    (tmp_path / "mine.jsonl").write_text('{"when": 1}\n')
    code, _, err = evaluate(capsys, *options, "--split", "test")
    assert code == 3
    assert "mine.jsonl, line 1, is not the record of a look" in err


def test_json_on_stdout_is_the_file_and_nothing_else(bundle, data, tmp_path, capsys):
    _, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path / "out", "--json")
    assert out == (tmp_path / "out" / "evaluation.json").read_text()


def test_a_head_is_measured_and_its_error_printed_and_written(bundle, tmp_path, capsys):
    read = read_bundle(bundle)
    # These pixels are square.
    spec = dataclasses.replace(read.spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    bundle = tmp_path / "heads.bedside"
    write_bundle(
        bundle, spec=spec, card=read.card, graphs={"f32": brightness_network()}, split=SPLIT
    )
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = (np.hypot(rows - 20, columns - 25) <= 12).astype(np.uint8)
    truth[1:9, 46:58] = 2
    write_png(tmp_path / "heads" / "images" / "001_HC.png", 60 * truth + np.uint8(20))
    write_png(tmp_path / "heads" / "masks" / "001_HC.png", truth)
    table = "filename,pixel_size_mm,head_circumference_mm\n001_HC.png,0.5,40\n"
    (tmp_path / "heads" / "pixel_size_and_hc.csv").write_text(table)
    code, out, _ = evaluate(capsys, bundle, tmp_path / "heads", "-o", tmp_path / "out")
    assert code == 0
    assert "Head circumference, mm: mean absolute error" in out
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["data"]["layout"] == "hc18"
    (result,) = found["measurements"]
    # A disc of radius 12, taken half a pixel within, is 36.1 mm around; the experts said 40.
    assert result["bias"]["mean"] == pytest.approx(36.1 - 40, abs=0.4)
    assert result["absolute_error"] == result["floor"]


def test_mirrors_are_averaged_over_and_named(bundle, data, tmp_path, capsys):
    # Brightness is told alike in a mirror, so that the scores stay what they are.
    code, out, _ = evaluate(
        capsys, bundle, data, "-o", tmp_path / "out", "--mirror", 0, 1, "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert found["mirror"] == [0, 1]
    assert found["structures"][0]["dice"]["mean"] == pytest.approx((5 * 1 + 0.7) / 6)
    code, _, err = evaluate(capsys, bundle, data, "-o", tmp_path / "out", "--mirror", 2)
    assert code == 2
    assert "--mirror is 2; the network has the axes 0, 1." in err


def test_a_part_with_none_of_the_patients_is_refused(bundle, tmp_path, capsys):
    data = write_camus(tmp_path / "others", {"patient0009": (0, 0)})
    code, _, err = evaluate(capsys, bundle, data, "-o", tmp_path / "out", "--split", "test")
    assert code == 3
    assert "none of the 1 patients" in err
    assert not (tmp_path / "out").exists()


def test_a_missing_truth_is_refused_and_nothing_is_written(bundle, data, tmp_path, capsys):
    (data / "patient0002" / "patient0002_4CH_ED_gt.nii.gz").unlink()
    code, _, err = evaluate(capsys, bundle, data, "-o", tmp_path / "out")
    assert code == 3
    assert "patient0002_4CH_ED" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_labels_of_another_table_are_refused(bundle, data, tmp_path, capsys):
    truth = data / "patient0003" / "patient0003_4CH_ED_gt.nii.gz"
    write_nifti(truth, square_labels() * 4)
    code, _, err = evaluate(capsys, bundle, data, "-o", tmp_path / "out")
    assert code == 3
    assert "label 4, 8; expected only 0, 1, 2" in err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_a_folder_is_refused_before_any_work(
    bundle, data, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    code, _, err = evaluate(capsys, bundle, data, "-o", tmp_path / "file")
    assert code == 2
    assert "cannot write" in err


def test_help_needs_no_numpy():
    program = (
        "import sys; from bedside.cli.main import main; main(['evaluate', '--help']); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_values_of_other_masks_are_told_or_are_those_of_the_bundles_data(
    bundle, data, tmp_path, capsys
):
    for truth in data.glob("*/*_gt.nii.gz"):
        write_nifti(truth, np.array([0, 128, 255], np.uint8)[square_labels(shift=0)])
    code, _, err = evaluate(capsys, bundle, data, "-o", tmp_path / "refused")
    assert (code, "holds the label 128, 255; expected only 0, 1, 2" in err) == (3, True)
    told = ["--relabel", "128=1,255=2", "--json"]
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path / "told", *told)
    assert (code, json.loads(out)["structures"][0]["dice"]["mean"]) == (0, 1.0)
    read = read_bundle(bundle)
    card = dataclasses.replace(read.card, relabel={"128": 1, "255": 2})
    own = tmp_path / "own.bedside"
    graphs = {"f32": read.read_graph("f32")}
    write_bundle(own, spec=read.spec, card=card, graphs=graphs, split=SPLIT)
    code, own_out, _ = evaluate(capsys, own, data, "-o", tmp_path / "own", "--json")
    assert code == 0
    assert json.loads(own_out)["structures"] == json.loads(out)["structures"]


def test_a_relabelling_that_is_none_is_wrong_use(bundle, data, capsys):
    code, _, err = evaluate(capsys, bundle, data, "--relabel", "white=1")
    assert (code, "--relabel is white=1" in err) == (2, True)


def add_patients(data):
    """Bring a data set of three patients to eight, the least that an interval is given for."""
    write_camus(data, dict.fromkeys([f"patient000{number}" for number in range(4, 9)], (0, 0)))


def test_every_step_is_dropped_and_others_are_added_and_each_is_scored(
    bundle, data, tmp_path, capsys
):
    add_patients(data)
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path / "out", "--ablate-pipeline")
    assert code == 0
    assert "Not dropped: fit" in out
    assert "Not a medical device" in out
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {"pipeline_steps.json", "pipeline_steps.md", "test_looks.jsonl"}
    found = json.loads((tmp_path / "out" / "pipeline_steps.json").read_text())
    variants = {variant["name"]: variant for variant in found["variants"]}
    assert [each["step"] for each in found["required"]] == ["grey", "fit"]
    names = list(variants)
    assert names[:3] == ["as it is", "without scale_percentile, its range kept",
                         "without keep_largest"]  # fmt: skip
    for name in ("local_crf", "clahe", "non_local_means", "fill_holes"):
        assert f"with {name}" in variants
    plain = variants["as it is"]
    assert plain["structures"][0]["dice"]["mean"] == pytest.approx((15 * 1 + 0.7) / 16)
    assert plain["difference"]["dice"] == {"mean": 0, "low": 0, "high": 0}
    # Brightness is 20, 80 or 140: divided by 255 and not by 140, the inner square, told from
    # 0.78 on, is lost; the network was made for another range.
    lost = variants["without scale_percentile, its range kept"]
    assert lost["verdict"] == "worse without: keep"
    assert lost["difference"]["dice"]["high"] < 0
    assert "trained with other input" in lost["note"]
    # The pixel that tells the shift is an island as bright as a square.
    assert variants["without keep_largest"]["verdict"] == "worse without: keep"
    assert variants["with fill_holes"]["verdict"] == "no gain"
    assert all(each["postprocess_ms"] > 0 for each in found["variants"])
    page = (tmp_path / "out" / "pipeline_steps.md").read_text()
    assert "| without keep_largest" in page
    assert "`fit`: the network's input has no other shape" in page


def test_an_ablation_as_json_is_the_file_and_nothing_else(bundle, data, tmp_path, capsys):
    options = ["--ablate-pipeline", "--split", "test", "--json"]
    _, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path / "out", *options)
    assert out == (tmp_path / "out" / "pipeline_steps.json").read_text()


@pytest.mark.parametrize(
    ("option", "page"),
    [("--robustness", "robustness.md"), ("--ablate-pipeline", "pipeline_steps.md")],
)
def test_what_to_mind_of_the_cases_is_said_by_comparisons_too(
    bundle, data, tmp_path, capsys, option, page
):
    code, out, _ = evaluate(capsys, bundle, data, "-o", tmp_path / "out", option)
    assert code == 0
    said = " ".join(out.split())
    written = (tmp_path / "out" / page).read_text()
    for text in ("cases were trained on, going by their patient ids", "first look"):
        assert text in said
    assert "cases were trained on, going by their patient ids" in written

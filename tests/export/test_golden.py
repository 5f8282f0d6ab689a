"""Golden tensors: each is what its description says, and together they lead to the labels."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main
from bedside.errors import UsageError
from bedside.export.golden import export_golden
from bedside.io.source import open_source
from bedside.segment import open_segmenter

NAMES = ("camus-4ch", "hc18-head", "acdc-sax", "lidc-nodule", "vocal-folds")


def read_tensor(folder, name):
    described = json.loads((folder / "golden.json").read_text())["tensors"][name]
    content = (folder / described["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == described["sha256"]
    return np.frombuffer(content, described["dtype"]).reshape(described["shape"])


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The golden folder of each shipped bundle of two axes, written at most once."""
    root, written = tmp_path_factory.mktemp("golden"), {}

    def write(name):
        if name not in written:
            export_golden(read_bundle(find_bundle(name)), root / name)
            written[name] = root / name
        return written[name]

    return write


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_are_those_of_the_picture_that_lies_beside_them(golden, name):
    folder = golden(name)
    segmenter = open_segmenter(read_bundle(find_bundle(name)), precision="f32", threads=1)
    found = segmenter.segment_sequence(open_source(folder / "input.png").sequence)
    labels = read_tensor(folder, "labels")
    assert labels.any()
    assert np.array_equal(labels, found.labels.array[0])


@pytest.mark.parametrize("name", NAMES)
def test_each_step_goes_on_from_the_one_before(golden, name):
    folder = golden(name)
    described = json.loads((folder / "golden.json").read_text())
    before = read_tensor(folder, "opened")
    assert np.array_equal(np.moveaxis(read_tensor(folder, "frame"), -1, 0), before)
    top, left, bottom, right = described["plan"]["box"]
    for step in described["preprocess"]:
        after = read_tensor(folder, step["result"])
        if "mask" in step:
            cut = before[:, top:bottom, left:right]
            assert np.array_equal(after, cut & read_tensor(folder, step["mask"]))
        if "table" in step:
            assert np.array_equal(after, read_tensor(folder, step["table"])[before])
        before = after
    tensor = read_tensor(folder, "tensor")
    assert np.array_equal(tensor[0], before)
    assert tensor.shape == tuple(described["plan"]["input_shape"])


def test_the_fan_is_cut_out_and_what_is_drawn_beside_it_is_not_seen(golden):
    folder = golden("camus-4ch")
    top, left, bottom, right = json.loads((folder / "golden.json").read_text())["plan"]["box"]
    frame, mask = read_tensor(folder, "frame"), read_tensor(folder, "fan_mask")
    assert (top, left) > (0, 0)
    assert (bottom - top, right - left) == mask.shape[1:]
    assert (frame[:top].max(axis=(0, 1)) - frame[:top].min(axis=(0, 1))).any()
    assert not read_tensor(folder, "labels")[:top].any()


def test_logits_come_from_the_tensor(golden):
    folder = golden("hc18-head")
    session = open_segmenter(read_bundle(find_bundle("hc18-head")), precision="f32").session
    logits = read_tensor(folder, "logits")
    found = session.predict(read_tensor(folder, "tensor").copy())
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-4 * np.abs(logits).max())


def test_an_image_of_the_user_is_not_copied_nor_named(tmp_path):
    picture = tmp_path / "Doe^Jane.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)).save(picture)
    bundle, out = read_bundle(find_bundle("hc18-head")), tmp_path / "out"
    export_golden(bundle, out, image=picture)
    described = json.loads((out / "golden.json").read_text())
    assert described["input"] == {
        "file": None,
        "sha256": hashlib.sha256(picture.read_bytes()).hexdigest(),
    }
    assert described["plan"]["frame_shape"] == [300, 400, 1]
    assert not any("Doe" in path.name or b"Doe" in path.read_bytes() for path in out.iterdir())
    assert not (out / "input.png").exists()


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match="hippocampus is a network of 3 axes"):
        export_golden(read_bundle(find_bundle("hippocampus")), tmp_path / "out")
    bundle = read_bundle(find_bundle("lidc-nodule"))
    units = replace(bundle.spec, preprocess=bundle.spec.preprocess[1:])
    with pytest.raises(UsageError, match=r"takes CT in its own units.*--input"):
        export_golden(replace(bundle, spec=units), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_golden_folder_and_replaces_nothing_else(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", "lidc-nodule", "--golden", "-o", str(out)]) == 0
    assert main(["export", "lidc-nodule", "--golden", "-o", str(out), "--json"]) == 0
    assert '"byte_order": "little"' in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["export", "lidc-nodule", "--golden", "-o", str(tmp_path / "mine")]) == 2


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--to", "onnx", "--golden"],
        ["--to", "onnx", "--input", "a.png"],
        ["--golden", "--precision", "int8"],
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options):
    assert main(["export", "lidc-nodule", *options, "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_golden_tensors_need_no_torch(tmp_path):
    code = (
        "import sys; from bedside.cli.main import main; "
        f"main(['export', 'lidc-nodule', '--golden', '-o', {str(tmp_path / 'out')!r}]); "
        "print('torch' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"

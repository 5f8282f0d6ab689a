"""Golden tensors: each is what its description says, and together they lead to the labels."""

import hashlib
import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main
from bedside.export.golden import describe_for_programs, export_golden
from bedside.io.source import open_source
from bedside.segment import Segmenter, open_segmenter
from bedside.spec import ComponentCount, WindowLevel
from makers import write_nifti

NAMES = ("camus-4ch", "hc18-head", "acdc-sax", "lidc-nodule", "vocal-folds")
SCAN = "hippocampus"


def read_tensor(folder, name):
    described = json.loads((folder / "golden.json").read_text())["tensors"][name]
    content = (folder / described["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == described["sha256"]
    return np.frombuffer(content, described["dtype"]).reshape(described["shape"])


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The golden folder of each shipped bundle, written at most once."""
    root, written = tmp_path_factory.mktemp("golden"), {}

    def write(name):
        if name not in written:
            export_golden(read_bundle(find_bundle(name)), root / name)
            written[name] = root / name
        return written[name]

    return write


@pytest.mark.parametrize("name", [*NAMES, SCAN])
def test_the_labels_are_those_of_the_picture_that_lies_beside_them(golden, name):
    folder = golden(name)
    opened = open_segmenter(read_bundle(find_bundle(name)), precision="f32", threads=1)
    # The tensors are of the picture as it is: it shows nothing that has a side.
    segmenter = Segmenter(replace(opened.spec, marker=None), opened.session)
    found = segmenter.segment_sequence(open_source(next(folder.glob("input.*"))).sequence)
    labels = read_tensor(folder, "labels")
    assert labels.any()
    wanted = found.labels.array
    assert np.array_equal(labels, wanted if name == SCAN else wanted[0])


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


@pytest.mark.parametrize(
    ("size", "spacing_mm", "resize"),
    [((300, 200), (0.15, 0.3), "linear"), ((100, 133), (0.3, 0.15), "area"),
     ((100, 133), (0.3, 0.3), "linear")],
)  # fmt: skip
def test_pixels_that_are_not_square_are_resized_as_it_says(tmp_path, size, spacing_mm, resize):
    frame = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    path = write_nifti(frame.T, tmp_path / "noise.nii", spacing_mm=(*spacing_mm[::-1], 1))
    out = tmp_path / "out"
    plan = export_golden(read_bundle(find_bundle("hc18-head")), out, image=path)["plan"]
    assert plan["pixel_aspect"] == pytest.approx(spacing_mm[0] / spacing_mm[1])
    assert plan["resize"] == resize
    top, left, bottom, right = plan["inner"]
    method = cv2.INTER_AREA if resize == "area" else cv2.INTER_LINEAR
    wanted = cv2.resize(frame, (right - left, bottom - top), interpolation=method)
    found = read_tensor(out, "step2_fit")[0, top:bottom, left:right]
    assert np.array_equal(found, wanted)


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


def test_the_tensors_of_a_scan_lead_to_its_labels_as_the_page_says(golden):
    """Windows, their weights, and the way back, written out as docs/bundle-format.md has them."""
    folder = golden(SCAN)
    plan = json.loads((folder / "golden.json").read_text())["plan"]
    volume, tensor = read_tensor(folder, "volume"), read_tensor(folder, "tensor")
    assert list(volume.shape) == plan["volume_shape"]
    assert plan["axes_order"] == [0, 1, 2]
    assert not any(plan["axes_reversed"])
    assert plan["grid_shape"] == [round(0.9 * size) for size in volume.shape[1:]]
    assert plan["grid_offset"] == [0, 0, 0]
    window, overlap = plan["window_shape"][2:], plan["windows"]["overlap"]
    starts, weight = [], np.ones(window)
    for axis, (size, side) in enumerate(zip(tensor.shape[2:], window, strict=True)):
        count = math.ceil((size - side) / max(1, side * (1 - overlap))) + 1
        starts.append(np.rint(np.linspace(0, size - side, count)).astype(int).tolist())
        k = np.arange(side).reshape([-1 if axis == other else 1 for other in range(3)])
        weight = weight * np.exp(-(((k - (side - 1) / 2) / (0.125 * side)) ** 2) / 2)
    weight = np.maximum(weight, 0.001)
    session = open_segmenter(read_bundle(find_bundle(SCAN)), precision="f32", threads=1).session
    total, norm = np.zeros((plan["num_classes"], *tensor.shape[2:])), np.zeros(tensor.shape[2:])
    for corner in itertools.product(*starts):
        part = tuple(slice(low, low + side) for low, side in zip(corner, window, strict=True))
        total[(..., *part)] += weight * session.predict(tensor[(..., *part)].copy())[0]
        norm[part] += weight
    logits = read_tensor(folder, "logits")[0]
    np.testing.assert_allclose(total / norm, logits, rtol=0, atol=1e-4 * np.abs(logits).max())
    for axis, size in enumerate(volume.shape[1:], 1):
        count = logits.shape[axis]
        y = np.clip((np.arange(size) + 0.5) * (count / size) - 0.5, 0, count - 1)
        first = y.astype(int)
        t = (y - first).astype(np.float32).reshape([-1 if axis == each else 1 for each in range(4)])
        below, above = (logits.take(np.minimum(first + by, count - 1), axis) for by in (0, 1))
        logits = below + t * (above - below)
    restored = read_tensor(folder, "restored")
    assert np.count_nonzero(logits.argmax(axis=0) != restored) <= 1e-5 * restored.size


def test_labels_are_those_after_repairs_and_priors(tmp_path):
    bundle = read_bundle(find_bundle("vocal-folds"))
    prior = ComponentCount(label=3, most=1, action="repair")
    spec = replace(bundle.spec, postprocess=(), priors=(prior,))
    export_golden(replace(bundle, spec=spec), tmp_path / "out")
    before, after = (read_tensor(tmp_path / "out", name) == 3 for name in ("restored", "labels"))
    assert [cv2.connectedComponents(mask.astype(np.uint8))[0] > 2 for mask in (before, after)] == [
        True,
        False,
    ]
    described = json.loads((tmp_path / "out" / "golden.json").read_text())
    assert described["priors"][0]["step"] == "component_count"


def test_values_that_no_picture_holds_are_written_as_a_frame_alone(tmp_path):
    bundle = read_bundle(find_bundle("lidc-nodule"))
    # Of its steps the last scales 8 bits, and the first makes colours grey.
    window = WindowLevel(level=-100.0, width=1400.0)
    units = replace(bundle.spec, preprocess=(window, *bundle.spec.preprocess[1:-1]))
    described = export_golden(replace(bundle, spec=units), tmp_path / "out")
    assert described["input"] == {"file": None, "sha256": None}
    assert described["tensors"]["frame"]["dtype"] != "uint8"
    assert not (tmp_path / "out" / "input.png").exists()


def test_an_export_of_a_bundle_that_takes_no_synthetic_image_goes_without(tmp_path):
    bundle = read_bundle(find_bundle("lidc-nodule"))
    units = replace(bundle.spec, preprocess=bundle.spec.preprocess[1:])
    assert "brightness" in describe_for_programs(tmp_path, replace(bundle, spec=units))
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]
    (tmp_path / "whole").mkdir()
    assert describe_for_programs(tmp_path / "whole", bundle) == ""
    assert (tmp_path / "whole" / "golden" / "golden.json").is_file()


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

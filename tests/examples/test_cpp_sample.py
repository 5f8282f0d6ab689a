"""The C++ sample, built and run where a compiler is: its labels are the golden ones."""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bedside.bundle import find_bundle, read_bundle
from bedside.export.golden import export_golden
from makers import FRAME_SIZES, write_nifti

SAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
DATA = Path(os.environ.get("BEDSIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))
MISSING = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
OPENVINO = importlib.util.find_spec("openvino")
CMAKE = Path(OPENVINO.origin).parent / "cmake" if OPENVINO else Path()


def test_the_sample_has_less_than_280_lines():
    lines = [line for path in SAMPLE.glob("*pp") for line in path.read_text("utf-8").splitlines()]
    assert len(lines) < 280


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The sample, built once."""
    if MISSING:
        pytest.skip(f"NOT TESTED: the C++ sample is not built; {', '.join(MISSING)} is missing.")
    if not CMAKE.is_dir():
        pytest.skip("NOT TESTED: the C++ sample is not built; openvino here has no cmake folder.")
    folder = tmp_path_factory.mktemp("build")
    run(["cmake", "-S", str(SAMPLE), "-B", str(folder), "-D", f"OpenVINO_DIR={CMAKE}"])
    run(["cmake", "--build", str(folder)])
    return folder / "golden"


@pytest.fixture
def sample(program, tmp_path):
    """Runs the sample on a bundle and an image: its exit code and its lines."""

    def call(name, image=None, *, spoil=None):
        bundle, folder = read_bundle(find_bundle(name)), tmp_path / "golden"
        (tmp_path / "model.onnx").write_bytes(bundle.read_graph("f32"))
        export_golden(bundle, folder, image=image)
        if spoil:
            path = folder / f"{spoil}.raw"
            values = np.fromfile(path, np.uint8)
            values[len(values) // 2] ^= 1
            values.tofile(path)
        return again()

    def again():
        done = subprocess.run(
            [str(program), str(tmp_path / "model.onnx"), str(tmp_path / "golden")],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout or done.stderr).splitlines()

    call.again = again
    return call


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def draw_head(size):
    """A bright oval outline in speckle, (H, W) uint8."""
    frame = np.random.default_rng(0).integers(20, 60, size, np.uint8)
    axes = int(0.4 * size[1]), int(0.35 * size[0])
    cv2.ellipse(frame, (size[1] // 2, size[0] // 2), axes, 10, 0, 360, 230, 5)
    return frame


def read_differing(lines):
    """Number of values that differ, by the name of the tensor."""
    return {Path(line.split(":")[0]).stem: int(line.split()[1]) for line in lines}


@pytest.mark.parametrize("name", ["camus-4ch", "hc18-head"])
def test_the_sample_gives_the_labels_of_the_golden_folder(sample, name):
    code, lines = sample(name)
    assert code == 0
    differing = read_differing(lines)
    assert (differing["tensor"], differing["labels"]) == (0, 0)
    assert "logits" in differing


@pytest.mark.parametrize("size", FRAME_SIZES.values(), ids=FRAME_SIZES)
def test_its_resize_is_that_of_the_pipeline_at_any_ratio(sample, tmp_path, size):
    frame = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    Image.fromarray(frame).save(tmp_path / "noise.png")
    code, lines = sample("hc18-head", tmp_path / "noise.png")
    assert code == 0
    assert read_differing(lines)["tensor"] == 0


@pytest.mark.parametrize("spacing_mm", [(0.15, 0.3), (0.3, 0.15), (0.9, 0.3)], ids=str)
@pytest.mark.parametrize("size", [(192, 256), (100, 133), (350, 250)], ids=str)
def test_pixels_that_are_not_square_are_shown_in_their_true_shape(
    sample, tmp_path, size, spacing_mm
):
    frame = draw_head(size)
    path = write_nifti(frame.T, tmp_path / "noise.nii", spacing_mm=(*spacing_mm[::-1], 1))
    code, lines = sample("hc18-head", path)
    assert code == 0
    differing = read_differing(lines)
    assert (differing["tensor"], differing["labels"]) == (0, 0)
    assert np.fromfile(tmp_path / "golden" / "labels.raw", np.uint8).any()
    description = tmp_path / "golden" / "golden.json"
    aspect = json.loads(description.read_text())["plan"]["pixel_aspect"]
    assert aspect == pytest.approx(spacing_mm[0] / spacing_mm[1])
    # Without the shape of its pixels it lies elsewhere, and the program says so.
    square = description.read_text().replace(f'"pixel_aspect": {aspect}', '"pixel_aspect": 1.0')
    description.write_text(square)
    assert sample.again() == (2, ["the frame lies elsewhere in the tensor"])


def test_a_label_that_differs_is_counted_and_the_exit_code_is_1(sample):
    code, lines = sample("hc18-head", spoil="labels")
    assert code == 1
    assert read_differing(lines)["labels"] == 1


def test_a_step_that_the_sample_does_not_cover_is_named(sample):
    assert sample("vocal-folds") == (2, ["not covered: rgb"])


def test_its_labels_of_patients_are_those_of_the_pipeline(sample):
    images = sorted(DATA.glob("camus/patient000[1-3]/*_4CH_E?.nii.gz"))
    if not images:
        pytest.skip(f"NOT TESTED: the C++ sample on patients; {DATA / 'camus'} is not here.")
    for image in images:
        code, lines = sample("camus-4ch", image)
        assert (image.name, code, read_differing(lines)["tensor"]) == (image.name, 0, 0)

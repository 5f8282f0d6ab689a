"""The C++ sample, built and run where a compiler is: its labels are the golden ones."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bedside.bundle import find_bundle, read_bundle
from bedside.export.golden import export_golden

SAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
MISSING = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
OPENVINO = importlib.util.find_spec("openvino")
CMAKE = Path(OPENVINO.origin).parent / "cmake" if OPENVINO else Path()


def test_the_sample_has_less_than_200_lines():
    lines = [line for path in SAMPLE.glob("*pp") for line in path.read_text("utf-8").splitlines()]
    assert len(lines) < 200


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
        done = subprocess.run(
            [str(program), str(tmp_path / "model.onnx"), str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout or done.stderr).splitlines()

    return call


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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


@pytest.mark.parametrize("size", [(384, 512), (576, 768), (401, 613), (192, 256), (192, 300)])
def test_its_resize_is_that_of_the_pipeline_at_any_ratio(sample, tmp_path, size):
    """Half, a third, odd ratios, the same size, and one axis that stays as it is."""
    frame = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    Image.fromarray(frame).save(tmp_path / "noise.png")
    code, lines = sample("hc18-head", tmp_path / "noise.png")
    assert code == 0
    assert read_differing(lines)["tensor"] == 0


def test_a_label_that_differs_is_counted_and_the_exit_code_is_1(sample):
    code, lines = sample("hc18-head", spoil="labels")
    assert code == 1
    assert read_differing(lines)["labels"] == 1


def test_a_step_that_the_sample_does_not_cover_is_named(sample):
    assert sample("vocal-folds") == (2, ["the step rgb is not covered"])


def test_a_frame_that_has_to_grow_is_refused(sample, tmp_path):
    Image.fromarray(np.full((100, 100), 90, np.uint8)).save(tmp_path / "small.png")
    assert sample("hc18-head", tmp_path / "small.png") == (
        2,
        ["frames that have to grow are not covered"],
    )

"""A 3D network from a data set to labels on the scan's own grid, in NIfTI."""

import json

import nibabel
import numpy as np
import pytest

from bedside.bundle import read_bundle
from bedside.cli.main import main
from volume_makers import centroid_mm, draw_phantom, make_geometry

pytest.importorskip("torch")

RECIPE = """
schema_version = 1

[deployment]
name = "ball"
version = "1.0"
task = "A bright ball in noise"

[deployment.input]
modality = "MR"
channels = 1
size_px = [16, 16, 16]

[[deployment.labels]]
value = 1
name = "Ball"
color = [240, 150, 40]
category = { value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }
type = { value = "5366008", scheme = "SCT", meaning = "Hippocampus" }

[[deployment.preprocess]]
step = "orient"

[[deployment.preprocess]]
step = "resample"
spacing_mm = [1.0, 1.0, 1.0]

[[deployment.preprocess]]
step = "scale_percentile"

[deployment.model]
architecture = "hybrid"
axes = 3
in_channels = 1
num_classes = 2
stem_channels = 8
decoder_channels = 8
stem_stride = 2
logit_stride = 1
levels = [
    { block = "conv", channels = 8, depth = 1 },
    { block = "window", channels = 16, depth = 1, num_heads = 2, head_dim = 8, window = 4 },
]

[[deployment.postprocess]]
step = "keep_largest"

[data]
name = "Balls"
layout = "msd"
path = "balls"
source = "made up"
license = "none"
split = [0.6, 0.2, 0.2]

[training]
epochs = 10
batch_size = 2
learning_rate = 1e-2
validate_every = 10

[build]
max_dice_drop = 0.2
calibration_images = 4
"""
SHAPE, SPACING = (14, 18, 20), (1.2, 1.0, 0.9)


def write_scan(path, array, geometry):
    """Write (D, H, W) with an LPS affine in array order as NIfTI, (x, y, z) and RAS."""
    affine = np.diag([-1.0, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def draw(seed, order=(2, 1, 0), signs=(1, 1, 1)):
    rng = np.random.default_rng(seed)
    geometry = make_geometry(SHAPE, SPACING, order, signs)
    middle = (geometry.affine @ [*(np.array(SHAPE) / 2), 1])[:3]
    truth = draw_phantom(geometry, middle + rng.uniform(-3, 3, 3), 4.5)
    image = rng.uniform(0, 60, SHAPE) + 120 * truth
    return image.astype(np.int16), truth.astype(np.uint8), geometry


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    data = folder / "balls"
    (data / "imagesTr").mkdir(parents=True)
    (data / "labelsTr").mkdir()
    entries = []
    for number in range(10):
        image, truth, geometry = draw(number)
        name = f"ball_{number:03d}.nii.gz"
        write_scan(data / "imagesTr" / name, image, geometry)
        write_scan(data / "labelsTr" / name, truth, geometry)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    index = {"name": "Balls", "labels": {"0": "background", "1": "ball"}, "training": entries}
    (data / "dataset.json").write_text(json.dumps(index))
    recipe = folder / "ball.toml"
    recipe.write_text(RECIPE)
    run, bundle = folder / "run", folder / "ball.bedside"
    assert main(["train", str(recipe), "-o", str(run), "--data", str(data), "--threads", "1"]) == 0
    assert main(["build", str(run), "-o", str(bundle), "--data", str(data)]) == 0
    return bundle


@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, 1), (-1, 1, -1)])
def test_a_ball_is_found_where_it_is_in_the_patient(bundle, signs, tmp_path):
    image, truth, geometry = draw(77, order=(0, 2, 1), signs=signs)
    write_scan(tmp_path / "scan.nii.gz", image, geometry)
    out = tmp_path / "out"
    assert main(["segment", str(tmp_path / "scan.nii.gz"), "-m", str(bundle), "-o", str(out)]) == 0
    mask = nibabel.load(out / "segmentation.nii.gz")
    np.testing.assert_allclose(mask.affine, nibabel.load(tmp_path / "scan.nii.gz").affine)
    found = np.asarray(mask.dataobj).transpose(2, 1, 0) == 1
    apart = centroid_mm(found, geometry) - centroid_mm(truth, geometry)
    assert np.linalg.norm(apart) < 1.0
    report = json.loads((out / "report.json").read_text())
    voxel_ml = np.prod(SPACING) / 1000
    assert report["slices"]
    assert report["structures"][0]["volume_ml"] == pytest.approx(found.sum() * voxel_ml, rel=1e-3)


def test_a_graph_in_8_bits_may_be_left_out(bundle, tmp_path):
    smaller = tmp_path / "smaller.bedside"
    run, data = bundle.parent / "run", bundle.parent / "balls"
    command = ["build", str(run), "-o", str(smaller), "--data", str(data), "--no-int8"]
    assert main(command) == 0
    assert read_bundle(smaller).precisions == ("f32",)
    assert "int8" in read_bundle(bundle).precisions
    assert smaller.stat().st_size < bundle.stat().st_size


def test_distances_are_measured_in_three_axes(bundle, tmp_path, capsys):
    data = bundle.parent / "balls"
    command = ["evaluate", str(bundle), str(data), "--split", "test", "-o", str(tmp_path), "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    (ball,) = result["structures"]
    assert ball["dice"]["mean"] > 0.7
    assert ball["hd95_mm"]["mean"] < 4
    assert len(result["cases"][0]["spacing_mm"]) == 3

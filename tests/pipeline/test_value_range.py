"""What values mean: scaled where it is certain, refused where it is not, never an empty mask."""

import numpy as np
import pytest

from bedside.errors import FormatError
from bedside.pipeline.frames.plan import plan_preprocess
from bedside.pipeline.value_range import check_hounsfield, plan_bytes
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.spec import (
    DeploymentSpec,
    InputSpec,
    LevelSpec,
    ModelSpec,
    ScalePercentile,
    ScaleRange,
    WindowLevel,
)
from makers import LABELS
from volume_makers import make_scan

BYTES = np.arange(256, dtype=np.float64).reshape(1, 16, 16)


def scaled(frames, modality="US", **options):
    images = [frame[0] for frame in frames]
    to_bytes, warnings = plan_bytes(images, modality=modality, **options)
    return to_bytes(images[0]).astype(int), warnings


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("modality", ["US", "ES", "MR", "CT"])
def test_parts_of_one_are_brightness_in_every_kind_of_image(kind, modality):
    image, warnings = scaled([(BYTES / 255).astype(kind)], modality)
    assert (image == BYTES[0]).all()
    assert "between 0 and 1" in warnings[0]


@pytest.mark.parametrize("modality", ["US", "MR"])
def test_parts_from_minus_one_are_too(modality):
    image, warnings = scaled([(BYTES / 127.5 - 1).astype(np.float32)], modality)
    assert (image == BYTES[0]).all()
    assert "between -1 and 1" in warnings[0]


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32])
def test_eight_bits_in_a_wider_type_are_what_they_are(kind):
    image, warnings = scaled([BYTES.astype(kind)])
    assert (image == BYTES[0]).all()
    assert warnings == []


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_sixteen_bits_fill_eight(kind):
    image, warnings = scaled([(BYTES * 257).astype(kind)])
    assert (image == BYTES[0]).all()
    assert warnings == []


def test_one_scale_holds_for_the_whole_sequence():
    bright, dark = np.full((1, 4, 4), 1000, np.int16), np.full((1, 4, 4), 500, np.int16)
    to_bytes, _ = plan_bytes([bright, dark], modality="US")
    assert (to_bytes(bright) == 255).all()
    assert (to_bytes(dark) == 128).all()


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        (BYTES * 16 - 1024, "CT"),  # HU, for a bundle of windowed CT
        (BYTES * 16, "CT"),
        (BYTES / 40 - 3, "US"),  # z-scores
        (BYTES / 80, "US"),  # logarithms
        (BYTES - 128, "US"),
        (BYTES / 200 - 0.3, "ES"),
    ],
)
def test_what_is_not_certain_is_refused_with_its_range(values, modality):
    frame = values.astype(np.float32)
    with pytest.raises(FormatError, match=r"its values lie between .*brightness from 0 to 255"):
        plan_bytes([frame], modality=modality)
    image, warnings = scaled([frame], modality, force=True)
    assert (image == BYTES[0]).all()
    assert "forced" in warnings[0]


def test_a_little_overshoot_is_cut():
    frame = BYTES.astype(np.float32)
    frame[0, 0, :2] = -3
    image, warnings = scaled([frame])
    assert (image[0, :2] == 0).all()
    assert warnings == []


def test_values_without_a_unit_have_their_own_range():
    image, warnings = scaled([(BYTES / 40 - 3).astype(np.float32)], "MR")
    assert (image == BYTES[0]).all()
    assert "the smallest was taken for black" in warnings[0]
    image, warnings = scaled([(BYTES / 80).astype(np.float32)], "MR")
    assert (image == BYTES[0]).all()
    assert warnings == []


def test_a_plan_says_what_it_scaled():
    frame = (BYTES / 255).astype(np.float32)
    spec = InputSpec("US", 1, (16, 16))
    plan = plan_preprocess((ScalePercentile(high=100),), [frame], input_spec=spec)
    assert plan.apply(frame).max() == 1
    assert "between 0 and 1" in plan.warnings[0]


WINDOW = WindowLevel(level=0.0, width=2000.0)


@pytest.mark.parametrize("values", [BYTES / 255, BYTES / 127.5 - 1])
def test_a_ct_window_takes_no_fractions(values):
    spec = InputSpec("CT", 1, (16, 16))
    with pytest.raises(FormatError, match="takes Hounsfield units"):
        plan_preprocess((WINDOW,), [values.astype(np.float32)], input_spec=spec)
    scan = make_scan(np.repeat(values, 4, axis=0).astype(np.float32), spacing_mm=(1, 1, 1))
    with pytest.raises(FormatError, match="takes Hounsfield units"):
        prepare_volume(scan, make_spec("CT", (WINDOW,)))


def make_spec(modality, steps):
    return DeploymentSpec(
        name="it", version="1", task="", input=InputSpec(modality, 1, (4, 16, 16)), labels=LABELS,
        preprocess=steps,
        model=ModelSpec("x", 1, 4, levels=(LevelSpec("conv", 1, 1),), spatial_dims=3),
    )  # fmt: skip


def test_ct_without_a_value_below_zero_is_doubted():
    assert check_hounsfield(-1000, 2000, width=400) is None
    assert check_hounsfield(0, 1, width=1) is None
    assert "shifted or windowed" in check_hounsfield(0, 255, width=400)
    assert "shifted or windowed" in check_hounsfield(24, 4000, width=400)
    spec = InputSpec("CT", 1, (16, 16))
    frame = BYTES.astype(np.int16)
    assert "air is -1000" in plan_preprocess((WINDOW,), [frame], input_spec=spec).warnings[0]
    scan = make_scan(np.repeat(frame, 4, axis=0), spacing_mm=(1, 1, 1))
    assert "air is -1000" in prepare_volume(scan, make_spec("CT", (WINDOW,))).warnings[0]
    spec = InputSpec("MR", 1, (16, 16))
    assert plan_preprocess((WINDOW,), [frame], input_spec=spec).warnings == ()


def test_a_scan_from_minus_one_keeps_its_dark_half():
    scan = make_scan(
        np.repeat(BYTES / 127.5 - 1, 4, axis=0).astype(np.float32), spacing_mm=(1, 1, 1)
    )
    prepared = prepare_volume(scan, make_spec("MR", (ScalePercentile(high=100),)))
    assert np.allclose(prepared.array[0, 0], BYTES[0] / 255, atol=0.01)
    assert "taken for black" in prepared.warnings[0]


def test_nominal_ranges_of_scans_are_parts_of_one_or_eight_bits():
    steps = (ScaleRange(source="nominal"),)
    for factor, count in ((1 / 255, 0), (1.0, 1)):
        array = np.repeat(BYTES * factor, 4, axis=0).astype(np.float32)
        prepared = prepare_volume(make_scan(array, spacing_mm=(1, 1, 1)), make_spec("MR", steps))
        assert np.allclose(prepared.array[0, 0], BYTES[0] / 255, atol=1e-6)
        assert len(prepared.warnings) == count
    scan = make_scan(np.repeat(BYTES * 16, 4, axis=0), spacing_mm=(1, 1, 1))
    with pytest.raises(FormatError, match="from 0 to 1, or to 255"):
        prepare_volume(scan, make_spec("MR", steps))

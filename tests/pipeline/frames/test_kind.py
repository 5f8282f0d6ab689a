"""What is refused because it is of another kind than what was planned for, and how it is said."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.errors import FormatError, FrameError, GeometryError, InputError, SpecError
from bedside.pipeline.frames.plan import plan_preprocess
from bedside.pipeline.frames.transform import FrameTransform
from bedside.pipeline.postprocess import LabelGrid, apply_postprocess
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.pipeline.volumes.sliding_window import SlidingWindow, predict_windows
from bedside.runtime import open_graph
from bedside.segment import Segmenter
from bedside.spec import (
    Clahe,
    CropCentre,
    CropFan,
    FillHoles,
    Fit,
    Grey,
    InputSpec,
    Resample,
    ScalePercentile,
    WindowLevel,
    ZScore,
)
from bedside.volume import Box, ImageSequence
from makers import LABELS, make_fan
from threads_for_tests import make_clouds, make_deployment, make_network
from volume_makers import make_scan

INPUT = InputSpec("US", 1, (64, 96))
WAYS = [
    (Grey(), CropFan(), Fit(), ScalePercentile()),
    (CropCentre(size_px=(32, 32)), Fit()),
    (Grey(), Clahe(), Fit(), ZScore()),
    (WindowLevel(level=100, width=200), Fit()),
]


def deploy(spatial_dims, *steps):
    return make_deployment(spatial_dims, steps, postprocess=(FillHoles(),))


def make_segmenter(spatial_dims=2, *steps):
    spec = deploy(spatial_dims, *(steps or ((Grey(), Fit()) if spatial_dims == 2 else (ZScore(),))))
    return Segmenter(spec, open_graph(make_network(spatial_dims)))


FRAME = make_fan(1, 48, 64)
OTHERS = {
    "twice as high": np.zeros((1, 96, 64), np.uint8),
    "smaller": np.zeros((1, 24, 32), np.uint8),
    "a row less": FRAME[:, 1:],
    "turned": FRAME.swapaxes(1, 2),
    "colour": np.repeat(FRAME, 3, axis=0),
    "channels last": FRAME.transpose(1, 2, 0),
    "no channel": FRAME[0],
    "a batch": FRAME[None],
    "empty": FRAME[:, :0],
    "nothing": np.zeros((), np.uint8),
    "complex": FRAME.astype(np.complex64),
    "objects": FRAME.astype(object),
    "words": FRAME.astype("U3"),
    "times": FRAME.astype("datetime64[s]"),
    "a list": FRAME.tolist(),
    "none": None,
}


@pytest.mark.parametrize("steps", WAYS, ids=["fan", "centre", "clahe", "window"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_a_frame_that_was_not_planned_for_is_refused_whatever_the_steps(steps, other):
    plan = plan_preprocess(steps, [FRAME], input_spec=INPUT)
    with pytest.raises(FrameError):
        plan.apply(other)
    assert plan.apply(FRAME).shape == (1, 1, 64, 96)


def test_the_error_names_both_and_the_way_out():
    segmenter = make_segmenter()
    plan = segmenter.plan(make_scan(make_fan(1, 240, 320)))
    with pytest.raises(FrameError) as caught:
        segmenter.segment_frame(make_fan(1, 480, 320), plan)
    assert str(caught.value) == (
        "the frame is (1, 480, 320) of uint8; the plan is for (1, 240, 320) of uint8, (channels, "
        "rows, columns). Make a new plan for frames of another kind."
    )
    assert isinstance(caught.value, InputError)
    assert segmenter.segment_frame(make_fan(1, 240, 320), plan).labels.shape == (240, 320)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32, np.bool_])
def test_numbers_stored_otherwise_are_refused_where_that_decides_how_bright_they_are(kind):
    plan = plan_preprocess((Grey(), Fit()), [FRAME], input_spec=INPUT)
    with pytest.raises(FrameError, match=r"the plan is for .* of uint8"):
        plan.apply(FRAME.astype(kind))
    windowed = plan_preprocess(
        (WindowLevel(level=100, width=200), Fit()), [FRAME], input_spec=INPUT
    )
    np.testing.assert_array_equal(
        windowed.apply(FRAME.astype(kind).astype(np.float32)), windowed.apply(FRAME.astype(kind))
    )


def test_the_order_of_bytes_and_of_memory_is_no_other_kind():
    frame = FRAME.astype(np.uint16) << 8
    plan = plan_preprocess((Grey(), Fit()), [frame], input_spec=INPUT)
    wanted = plan.apply(frame)
    for odd in (frame.astype(">u2"), np.asfortranarray(frame), np.repeat(frame, 2, 2)[..., ::2]):
        assert (plan.apply(odd) == wanted).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("steps", WAYS, ids=["fan", "centre", "clahe", "window"])
def test_numbers_that_are_none_are_refused_where_there_are_many(steps, value):
    frame = FRAME.astype(np.float32)
    plan = plan_preprocess(steps, [frame], input_spec=INPUT)
    few, many = frame.copy(), frame.copy()
    few[0, 20, 30] = value
    many[0, 20] = value
    assert np.isfinite(plan.apply(few)).all()
    with pytest.raises(FormatError, match="of the values of a frame are NaN or infinite"):
        plan.apply(many)


def test_a_plan_of_another_bundle_is_refused():
    segmenter = make_segmenter()
    plan = plan_preprocess((Grey(), Fit()), [FRAME], input_spec=InputSpec("CT", 1, (64, 96)))
    with pytest.raises(FrameError, match=r"CT.* this bundle takes .*US.* with this bundle's"):
        segmenter.segment_frame(FRAME, plan)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ([], "no frames to plan for"),
        ([FRAME, FRAME[:, 1:]], r"not of one sequence: .*\(1, 47, 64\)"),
        ([FRAME[0]], r"a frame is \(48, 64\); expected \(channels, rows, columns\)"),
        ([FRAME[:, :0]], r"a frame is \(1, 0, 64\)"),
        ([FRAME.transpose(1, 2, 0)], "48 channels.*Channels come first"),
        ([FRAME.astype(np.complex64)], "frames are of complex64"),
        ([FRAME.tolist()], "frames are of list"),
    ],
)
@pytest.mark.parametrize("steps", WAYS, ids=["fan", "centre", "clahe", "window"])
def test_a_plan_is_made_for_frames_of_one_kind(steps, sample, said):
    with pytest.raises(FormatError, match=said):
        plan_preprocess(steps, sample, input_spec=INPUT)


@pytest.mark.parametrize("steps", WAYS[:3], ids=["fan", "centre", "clahe"])
def test_a_plan_is_made_for_numbers_of_one_kind(steps):
    with pytest.raises(FormatError, match=r"not of one sequence: .*uint16"):
        plan_preprocess(steps, [FRAME, FRAME.astype(np.uint16)], input_spec=INPUT)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    "decoded",
    [
        np.zeros((1, 1, 30), np.uint8),
        np.zeros((1, 24, 29), np.uint8),
        np.zeros((3, 24, 30), np.uint8),
        np.zeros((24, 30), np.uint8),
        np.zeros((1, 24, 30), np.complex64),
    ],
    ids=lambda frame: f"{frame.shape} {frame.dtype}",
)
def test_frames_that_do_not_decode_to_what_the_image_says_are_refused(spatial_dims, decoded):
    sequence = ImageSequence((8, 1, 24, 30), lambda index: decoded)
    with pytest.raises(FormatError, match=r"a frame decodes to .*\(1, 24, 30\), as the image says"):
        make_segmenter(spatial_dims).segment_sequence(sequence)


def test_slices_that_do_not_fit_are_refused_when_resampled_too():
    slices = [np.zeros((1, 24, 30), np.uint8)] * 3 + [np.zeros((1, 1, 30), np.uint8)]
    sequence = ImageSequence(
        (4, 1, 24, 30), slices.__getitem__, spacing_mm=(1.0, 1.0), slice_spacing_mm=1.0
    )
    spec = deploy(3, Resample(spacing_mm=(2.0, 2.0, 2.0)), ZScore())
    with pytest.raises(FormatError, match=r"a frame decodes to \(1, 1, 30\)"):
        prepare_volume(sequence, spec)


def test_a_network_that_is_not_the_specs_is_refused():
    for spatial_dims, array in ((2, make_clouds(2, 40, 50)), (3, make_clouds(8, 24, 30))):
        segmenter = make_segmenter(spatial_dims)
        spec = replace(
            segmenter.spec, labels=LABELS[:2], model=replace(segmenter.spec.model, num_classes=3)
        )
        with pytest.raises(SpecError, match=r"the network gives logits of \(1, 4, .* \(1, 3, "):
            Segmenter(spec, segmenter.session).segment_sequence(make_scan(array))
        coarser = replace(segmenter.spec, model=replace(segmenter.spec.model, logit_stride=2))
        with pytest.raises(SpecError, match=r"the network gives logits of"):
            Segmenter(coarser, segmenter.session).segment_sequence(make_scan(array))


def test_logits_and_labels_of_another_grid_are_refused():
    whole = FrameTransform((48, 64), Box(0, 0, 48, 64), Box(0, 0, 64, 96))
    for shape in ((4, 32, 48), (4, 64, 48), (64, 96), (1, 4, 64, 96)):
        with pytest.raises(GeometryError, match="do not cover"):
            whole.restore(np.zeros(shape, np.float32), stride=1)
    with pytest.raises(GeometryError, match=r"the labels are on a grid of \(40, 64\)"):
        whole.project(np.zeros((40, 64), np.uint8), (64, 96))
    transform = prepare_volume(make_scan(make_clouds(10, 24, 30)), deploy(3)).transform
    logits = np.zeros((4, *transform.tensor_shape), np.float32)
    assert transform.restore([logits], stride=1).shape == (10, 24, 30)
    for wrong in (logits[:, :-1], logits[..., :-1], logits[:, :, 1:], logits[..., ::2]):
        with pytest.raises(GeometryError, match="are on a grid of"):
            transform.restore([wrong], stride=1)
    with pytest.raises(GeometryError, match=r"slices of logits are on a grid of \(20,\)"):
        transform.restore([logits, logits], stride=1)
    with pytest.raises(GeometryError, match="the labels are on a grid of"):
        transform.project(np.zeros((10, 30, 24), np.uint8))


@pytest.mark.parametrize("shape", [(4, 1, 1), (4, 8, 1), (4, 16, 16)])
def test_logits_of_a_window_are_not_stretched_over_it(shape):
    with pytest.raises(GeometryError, match="logits of a window"):
        predict_windows(
            lambda window: np.zeros((1, *shape), np.float32),
            np.zeros((1, 20, 20), np.float32),
            SlidingWindow((8, 8), blend="constant"),
        )


@pytest.mark.parametrize(
    "grid",
    [
        LabelGrid(spacing_mm=(1.0, 1.0)),
        LabelGrid(spacing_mm=(1.0, 1.0, 1.0), left=(0.0, 1.0)),
        LabelGrid(spacing_mm=(1.0,)),
    ],
)
def test_a_grid_of_other_axes_measures_nothing(grid):
    with pytest.raises(GeometryError, match="is not one of labels of"):
        apply_postprocess(np.zeros((4, 5, 6), np.uint8), (), label_values=(1,), grid=grid)

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bedside.errors import FormatError, ModalityError, SpecError
from bedside.pipeline.frames.plan import plan_preprocess
from bedside.pipeline.value_range import plan_bytes
from bedside.spec import Clahe, CropCentre, CropFan, Fit, Grey, InputSpec, Rgb, ScalePercentile
from bedside.volume import Box
from makers import make_fan

US = InputSpec(modality="US", channels=1, size_px=(64, 64))
STEPS = (Grey(), CropFan(), Fit(stretch=1.25), ScalePercentile())


def make_frames(*, channels=3):
    return [np.repeat(frame[None], channels, axis=0) for frame in make_fan(4, 96, 128)]


def test_frames_become_tensors_of_the_networks_size_and_are_left_alone():
    frames = make_frames()
    before = [frame.copy() for frame in frames]
    tensor = plan_preprocess(STEPS, frames, input_spec=US).apply(frames[0])
    assert tensor.shape == (1, 1, 64, 64)
    assert tensor.dtype == np.float32
    assert tensor.min() == 0
    assert 0.9 < tensor.max() <= 1
    assert all((a == b).all() for a, b in zip(frames, before, strict=True))


def test_colour_without_colour_is_grey():
    plan = plan_preprocess(STEPS, make_frames(channels=1), input_spec=US)
    other = plan_preprocess(STEPS, make_frames(channels=3), input_spec=US)
    assert np.allclose(
        plan.apply(make_frames(channels=1)[1]), other.apply(make_frames(channels=3)[1]), atol=0.01
    )


def test_a_colour_photograph_is_refused_unless_forced():
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 255, (3, 60, 80)).astype(np.uint8)
    with pytest.raises(ModalityError, match="colour photograph"):
        plan_preprocess(STEPS, [photograph], input_spec=US)
    plan = plan_preprocess(STEPS, [photograph], input_spec=US, force=True)
    assert "forced" in plan.warnings[0]


def test_a_box_of_doppler_is_warned_of_and_a_small_mark_is_not():
    frames = make_frames()
    for frame in frames:
        frame[0, 10:14, 10:14] = 255
    assert not plan_preprocess(STEPS, frames, input_spec=US).warnings
    for frame in frames:
        frame[0, 40:70, 40:70] = 255
    assert "Doppler" in plan_preprocess(STEPS, frames, input_spec=US).warnings[0]


def test_a_trusted_region_bounds_the_search_for_the_sector():
    frames = make_frames()
    region = Box(0, 0, 96, 60)
    plan = plan_preprocess(STEPS, frames, input_spec=US, region=region)
    assert plan.transform.box.right <= 60


def test_without_a_sector_the_whole_frame_is_used_and_that_is_said():
    frames = [np.zeros((1, 50, 50), np.uint8) for _ in range(3)]
    frames[0][0, 10:12, 10:40] = 255
    plan = plan_preprocess(STEPS, frames, input_spec=US)
    assert plan.transform.box == Box(0, 0, 50, 50)
    assert any("no ultrasound sector" in warning for warning in plan.warnings)


def test_one_gain_serves_the_whole_sequence():
    frames = make_frames(channels=1)
    darker = [frames[0], frames[1] // 2, *frames[2:]]
    plan = plan_preprocess(STEPS, darker, input_spec=US)
    ratio = plan.apply(darker[1]).sum() / plan.apply(frames[1]).sum()
    assert ratio == pytest.approx(0.5, abs=0.03)


def test_a_dim_recording_is_raised_but_not_without_end():
    dim = [(frame // 16) for frame in make_frames(channels=1)]
    steps = (ScalePercentile(high=100, max_gain=4),)
    tensor = plan_preprocess(steps, dim, input_spec=US).apply(dim[0])
    assert tensor.max() == pytest.approx(4 * dim[0].max() / 255, rel=1e-5)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (np.full((1, 2, 2), 65535, np.uint16), 255),
        (np.full((1, 2, 2), 200.0), 200),
        (np.full((1, 2, 2), 3000.0), 255),
        (np.full((1, 2, 2), 200, np.uint16), 200),
        (np.full((1, 2, 2), 1023, np.uint16), 255),
        (np.full((1, 2, 2), 200, np.int64), 200),
    ],
)
def test_wider_types_become_eight_bits(frame, expected):
    to_bytes, warnings = plan_bytes([frame], modality="US")
    assert (to_bytes(frame) == expected).all()
    assert warnings == []


def test_a_frame_of_many_nans_is_refused_and_a_few_are_black():
    frame = np.ones((1, 100, 100))
    frame *= 100
    frame[0, 0, :5] = np.nan
    to_bytes, _ = plan_bytes([frame[0]], modality="US")
    assert to_bytes(frame[0])[0, :5].tolist() == [0] * 5
    plan = plan_preprocess((Grey(), Fit()), [frame], input_spec=US)
    frame[0, :10] = np.inf
    with pytest.raises(FormatError, match="NaN or infinite"):
        plan.apply(frame)


def test_colour_goes_through_every_step_as_three_channels():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (3, 40, 60)).astype(np.uint8)
    spec = InputSpec(modality="ES", channels=3, size_px=(40, 40))
    steps = (Rgb(), CropCentre(size_px=(40, 40)), Fit(), ScalePercentile(high=100, max_gain=1))
    tensor = plan_preprocess(steps, [frame], input_spec=spec).apply(frame)
    assert tensor.shape == (1, 3, 40, 40)
    assert np.allclose(tensor[0], frame[:, :, 10:50] / 255, atol=1e-6)


def test_grey_is_repeated_where_colour_is_wanted():
    frame = make_frames(channels=1)[0]
    spec = InputSpec(modality="ES", channels=3, size_px=(96, 128))
    tensor = plan_preprocess((Rgb(), Fit()), [frame], input_spec=spec).apply(frame)
    assert tensor.shape == (1, 3, 96, 128)
    assert (tensor == frame).all()


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((97, 130), Box(16, 33, 80, 97)),
        ((50, 130), Box(0, 33, 50, 97)),
        ((50, 40), Box(0, 0, 50, 40)),
    ],
    ids=["larger", "lower", "smaller"],
)
def test_the_middle_is_kept_and_labels_come_back_to_where_they_were(shape, box):
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    labels[box.slices] = rng.integers(0, 2, (box.height, box.width))
    frame = (100 * labels)[None]
    spec = InputSpec(modality="MR", channels=1, size_px=(box.height, box.width))
    plan = plan_preprocess((Grey(), CropCentre(size_px=(64, 64))), [frame], input_spec=spec)
    assert plan.transform.box == box
    tensor = plan.apply(frame)
    assert tensor.shape == (1, 1, box.height, box.width)
    logits = np.stack([50 - tensor[0, 0], tensor[0, 0] - 50])
    assert (plan.transform.restore(logits, stride=1) == labels).all()


def test_a_share_of_the_shorter_side_is_kept_whatever_the_size_of_pixels():
    spec = InputSpec(modality="MR", channels=1, size_px=(64, 64))
    steps = (Grey(), CropCentre(share=0.75), Fit())
    boxes = [
        plan_preprocess(steps, [np.zeros((1, *shape), np.uint8)], input_spec=spec).transform.box
        for shape in ((100, 80), (200, 160), (150, 120))
    ]
    assert boxes == [Box(20, 10, 80, 70), Box(40, 20, 160, 140), Box(30, 15, 120, 105)]
    assert CropCentre(share=0.5).find_size(5, 7) == (3, 3)
    with pytest.raises(SpecError, match="expected one of them"):
        CropCentre()
    with pytest.raises(SpecError, match=r"share is 1\.5"):
        CropCentre(share=1.5)


def test_a_crop_within_the_sector_is_placed_on_the_source():
    frames = make_frames(channels=1)
    alone = plan_preprocess((Grey(), CropFan()), frames, input_spec=US).transform.box
    steps = (Grey(), CropFan(), CropCentre(size_px=(20, 30)))
    both = plan_preprocess(steps, frames, input_spec=US).transform.box
    assert (both.height, both.width) == (20, 30)
    assert both.top == alone.top + (alone.height - 20) // 2
    assert both.left == alone.left + (alone.width - 30) // 2


@pytest.mark.parametrize(
    "steps",
    [(Fit(), CropCentre(size_px=(8, 8))), (CropCentre(size_px=(8, 8)), CropFan())],
    ids=["crop after fit", "fan after crop"],
)
def test_cuts_in_an_order_that_would_misplace_labels_are_refused(steps):
    with pytest.raises(SpecError, match="in front of"):
        plan_preprocess(steps, make_frames(channels=1), input_spec=US)


def make_colour_frames():
    fan = make_fan(4, 96, 128)
    image = np.stack([fan, fan, np.minimum(fan, 250)], axis=-1)
    return [np.moveaxis(each, -1, 0) for each in image]


@pytest.mark.parametrize("steps", [STEPS, (Rgb(), CropCentre(size_px=(40, 50)), Fit())])
def test_planes_together_and_planes_apart_in_memory_give_the_same_tensor(steps):
    together = make_colour_frames()
    apart = [np.ascontiguousarray(frame) for frame in together]
    spec = US if steps is STEPS else InputSpec(modality="US", channels=3, size_px=(64, 64))
    plan = plan_preprocess(steps, together, input_spec=spec)
    assert plan.crop == plan.transform.box
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(plan.apply(one), plan.apply(other))


def test_a_frame_whose_planes_lie_together_is_not_copied():
    (frame, *_) = make_colour_frames()
    seen = []
    plan = plan_preprocess((Rgb(), Fit()), [frame], input_spec=US)
    watched = replace(plan, stages=(lambda image: seen.append(image) or image, *plan.stages))
    watched.apply(frame)
    assert np.shares_memory(seen[0], frame)


def test_a_crop_comes_before_colour_and_after_what_looks_around_a_pixel():
    frames = make_colour_frames()
    crop = CropCentre(size_px=(64, 64))
    first = plan_preprocess((Grey(), crop), frames, input_spec=US)
    grey = cv2.cvtColor(np.moveaxis(frames[0], 0, -1), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(first.apply(frames[0])[0, 0], grey[16:80, 32:96])
    assert first.crop == Box(16, 32, 80, 96)
    later = plan_preprocess((Grey(), Clahe(), crop), frames, input_spec=US)
    equalised = cv2.createCLAHE(2.0, (8, 8)).apply(grey)
    np.testing.assert_array_equal(later.apply(frames[0])[0, 0], equalised[16:80, 32:96])
    assert later.crop == Box(0, 0, 96, 128)


def test_channels_that_are_images_of_their_own_are_scaled_by_themselves():
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 4000, (1, 64, 64))
    frames = [np.concatenate([bright, bright // 100, 0 * bright]).astype(np.int16)]
    three = InputSpec(modality="MR", channels=3, size_px=(64, 64))
    plan = plan_preprocess((Fit(), ScalePercentile(per_channel=True)), frames, input_spec=three)
    tensor = plan.apply(frames[0])[0]
    single = replace(three, channels=1)
    alone = [
        plan_preprocess((Fit(), ScalePercentile()), [frame], input_spec=single).apply(frame)[0, 0]
        for frame in (frames[0][:1], frames[0][1:2])
    ]
    assert np.array_equal(tensor[:2], np.stack(alone))
    assert not tensor[2].any()
    assert not plan.warnings
    together = plan_preprocess((Fit(), ScalePercentile()), frames, input_spec=three)
    assert together.apply(frames[0])[0, 1].max() < 0.02

"""Confidence of masks: sums of a frame, the fit on made-up units, and results of a network."""

import dataclasses

import cv2
import numpy as np
import pytest

from bedside.bundle import read_bundle, write_with_card, write_with_confidence
from bedside.errors import BundleError, SpecError
from bedside.evaluation.confidence_fit import (
    Drawn,
    Owners,
    find_group_tails,
    find_tails,
    fit_structure,
    fit_table,
)
from bedside.pipeline.coarse import shrink_planes
from bedside.pipeline.confidence import STATISTICS, describe_frame, make_features, score_features
from bedside.report.measurement_table import measurement_rows
from bedside.report.overlay import draw_frame, plan_overlay
from bedside.report.page import to_html
from bedside.segment import Segmenter, load, open_segmenter
from bedside.spec import Fit, Grey, ScalePercentile, from_mapping, to_mapping
from bedside.spec.confidence import Confidence, StructureConfidence, StructureModel, Tails
from bedside.volume import ImageSequence, LabelMap
from models_for_tests import make_bundle, make_card, make_spec


def draw_square(*, margin: float = 12.0) -> np.ndarray:
    """Logits (3, 32, 32) of a square of 8 x 8 pixels of class 1, sure by the margin."""
    logits = np.zeros((3, 32, 32), np.float32)
    logits[0] = margin
    logits[:, 8:16, 8:16] = np.float32([0, margin, 0])[:, None, None]
    return logits


def sum_of(sums: np.ndarray, name: str, structure: int = 0) -> float:
    return float(sums[structure, STATISTICS.index(name)])


def make_samples(units: int, *, seed: int = 0) -> list[Drawn]:
    """Squares drawn more or less surely; the surer, the higher their Dice, but for chance."""
    rng = np.random.default_rng(seed)
    samples = []
    for unit in range(units):
        for copy in range(4):
            margin = rng.uniform(0.5, 5)
            dice = float(np.clip(0.6 + 0.07 * margin + rng.normal(0, 0.02), 0, 1))
            area = 64 * rng.uniform(0.9, 1.1)
            tensor = np.full((1, 64, 64), 0.5, np.float32)
            samples.append(
                Drawn(
                    f"p{unit}", copy == 0, describe_frame(tensor, draw_square(margin=margin)),
                    dice, {"area": (64.0, area)},
                )
            )  # fmt: skip
    return samples


@pytest.fixture(scope="module")
def model():
    fitted = fit_structure("inner", 0, make_samples(40), with_image=True)
    assert fitted is not None
    return fitted


def test_a_sure_square_has_the_area_and_the_border_that_it_has():
    sums = describe_frame(np.zeros((1, 64, 64), np.float32), draw_square())
    assert sums.shape == (2, len(STATISTICS))
    assert sum_of(sums, "drawn") == 64
    assert sum_of(sums, "expected") == pytest.approx(64, abs=0.1)
    assert sum_of(sums, "border") == sum_of(sums, "dark_border") == 4 * 8
    assert sum_of(sums, "pixels") == 32 * 32
    assert sum_of(sums, "drawn", structure=1) == 0


def test_the_border_sees_the_contrast_of_the_image_along_it():
    tensor = np.full((1, 32, 32), 0.25, np.float32)
    tensor[:, 8:16, 8:16] = 0.75
    sums = describe_frame(tensor, draw_square())
    assert sum_of(sums, "gradient") == pytest.approx(4 * 8 * 0.5)
    assert sum_of(sums, "brightness") == pytest.approx(64 * 0.75)
    assert sum_of(sums, "dark_border") == 0


def test_a_mirrored_frame_has_the_same_sums():
    rng = np.random.default_rng(3)
    tensor = rng.random((1, 64, 64), np.float32)
    logits = rng.normal(size=(3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(
        describe_frame(tensor, logits),
        describe_frame(tensor[..., ::-1], logits[..., ::-1]),
        rtol=1e-6,
    )


@pytest.mark.parametrize("shape", [(3, 96, 128), (3, 80, 64), (3, 100, 77), (3, 48, 64)])
def test_planes_shrunk_together_are_those_shrunk_one_by_one(shape):
    planes = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    before = planes.copy()
    found = shrink_planes(planes, (64, 48))
    for plane, one in zip(planes, found, strict=True):
        assert np.array_equal(one, cv2.resize(plane, (64, 48), interpolation=cv2.INTER_AREA))
    found += 1
    assert np.array_equal(planes, before)


def test_sums_are_those_that_the_bundle_format_defines():
    rng = np.random.default_rng(6)
    image = rng.random((1, 32, 48), np.float32)
    for classes in (2, 4):
        logits = rng.normal(size=(classes, 32, 48)).astype(np.float32)
        found = dict(zip(STATISTICS, describe_frame(image, logits).T, strict=True))
        chances = np.exp(logits) / np.exp(logits).sum(axis=0)
        for place, likely in enumerate(chances[1:]):
            mask, grey = chances.argmax(axis=0) == place + 1, image[0]
            edges = [(mask[1:], mask[:-1], grey[1:], grey[:-1])]
            edges.append((mask[:, 1:], mask[:, :-1], grey[:, 1:], grey[:, :-1]))
            border = [(one != other, here, there) for one, other, here, there in edges]
            wanted = {
                "drawn": mask.sum(), "expected": likely.sum(), "agreed": likely[mask].sum(),
                "doubt": (likely * (1 - likely)).sum(),
                "inner_doubt": (likely * (1 - likely))[mask].sum(),
                "band": ((likely >= 0.1) & (likely <= 0.9)).sum(),
                "border": sum(edge.sum() for edge, _, _ in border),
                "brightness": grey[mask].sum(),
                "gradient": sum(abs(one - other)[edge].sum() for edge, one, other in border),
                "dark_border": sum(
                    ((one < 0.04) & (other < 0.04))[edge].sum() for edge, one, other in border
                ),
                "pixels": mask.size, "unsure": (1 - chances.max(axis=0)).sum(),
                "light": grey.sum(), "light_squared": (grey**2).sum(),
            }  # fmt: skip
            assert list(wanted) == list(STATISTICS)
            for name, value in wanted.items():
                assert found[name][place] == pytest.approx(value, rel=1e-5), name


def test_pixels_of_two_equal_classes_belong_to_the_first():
    logits = np.zeros((3, 4, 6), np.float32)
    logits[1:, 1:3, 1:4] = 5
    sums = describe_frame(None, logits)
    assert [sum_of(sums, "drawn", structure) for structure in (0, 1)] == [6, 0]
    assert [sum_of(sums, "border", structure) for structure in (0, 1)] == [10, 0]


def test_an_unsure_mask_loses_expected_dice():
    sure, unsure = (
        make_features(describe_frame(None, draw_square(margin=margin)))["lost"][0]
        for margin in (10.0, 2.0)
    )
    assert sure == pytest.approx(np.log(0.01), abs=0.05)
    assert unsure > sure + 1


def test_predictions_rise_with_the_sureness_and_are_calibrated(model):
    fresh = make_samples(200, seed=1)
    made = make_features(np.stack([sample.sums for sample in fresh]))
    rows = np.stack([made[name][:, 0] for name in model.features], axis=1)
    predicted = np.interp(score_features(model, rows), model.scores, model.dice)
    dice = np.array([sample.dice for sample in fresh])
    assert abs(predicted - dice).mean() < 0.03
    assert abs((predicted - dice).mean()) < 0.01
    bounds = np.array([model.bound_dice(each) for each in predicted])
    assert 0.85 < np.mean((bounds[:, 0] <= dice) & (dice <= bounds[:, 1])) < 0.95
    inside = []
    for sample, each in zip(fresh, predicted, strict=True):
        value, truth = sample.measured["area"]
        low, high = model.bound_measurement("area", value, predicted_dice=each)
        inside.append(low <= truth <= high)
    assert 0.85 < np.mean(inside) < 0.95


def test_too_few_units_have_no_model():
    assert fit_structure("inner", 0, make_samples(7), with_image=True) is None


def test_how_good_training_masks_are_counts_for_nothing(model):
    better = [
        dataclasses.replace(each, unit=f"t{each.unit}", dice=min(1.0, each.dice + 0.04))
        for each in make_samples(40)
    ]
    helped = fit_structure("inner", 0, make_samples(40), with_image=True, training=better)
    assert np.mean(helped.dice) == pytest.approx(np.mean(model.dice), abs=0.005)
    assert helped.least_dice == pytest.approx(model.least_dice, abs=0.01)


def test_a_measurement_that_was_not_calibrated_has_no_interval(model):
    assert model.bound_measurement("volume", 1.0, predicted_dice=0.9) is None


def test_tails_of_an_even_spread_hold_the_level():
    tails = find_tails(np.arange(1, 100) / 99, one_each(99))
    # Of 100 units, the further one among them, 90 lie within.
    assert tails.high == pytest.approx(1 + tails.low, abs=0.02)
    assert 90 / 99 - 0.02 < tails.high + tails.low < 91 / 99 + 0.02


def one_each(units: int) -> Owners:
    """Clean images, one of each unit."""
    return Owners(np.arange(units), np.ones(units, bool))


def test_fewer_than_9_units_cannot_hold_90_percent():
    residuals = np.random.default_rng(0).normal(size=9)
    assert find_tails(residuals[:8], one_each(8)) is None
    tails = find_tails(residuals, one_each(9))
    # Of 9 units all have to lie within, so that a tenth does in 9 of 10 cases.
    assert -tails.low <= residuals.min() + 1e-5
    assert tails.high >= residuals.max() - 1e-5
    assert find_tails(residuals[:8], one_each(8), level=0.8) is not None


def test_intervals_of_a_few_units_hold_the_further_one():
    random, held = np.random.default_rng(1), 0
    for _ in range(400):
        residuals = random.standard_t(4, 12)
        tails = find_tails(residuals[:11], one_each(11))
        held += -tails.low <= residuals[11] <= tails.high
    assert held / 400 > 0.86


def test_structures_that_are_not_to_be_trusted_have_intervals_of_their_own():
    random = np.random.default_rng(2)
    trusted = np.arange(120) < 60
    residuals = random.normal(size=120) * np.where(trusted, 1, 5)
    found, doubted = find_group_tails(residuals, one_each(120), trusted)
    assert doubted.low + doubted.high > 3 * (found.low + found.high)
    few = np.arange(120) < 117
    assert find_group_tails(residuals, one_each(120), few)[1] == find_tails(
        residuals, one_each(120)
    )


def test_without_tails_a_dice_may_be_anything(model):
    vague = dataclasses.replace(model, dice_tails=None, doubted_dice_tails=None)
    assert vague.bound_dice(0.9) == (0.0, 1.0)


def test_a_table_rises_where_the_means_do_not():
    scores, dice = np.arange(24.0), np.repeat([0.2, 0.8, 0.5, 0.9], 6)
    knots, levels = fit_table(scores, dice, np.ones(24))
    assert (np.diff(knots) > 0).all()
    assert (np.diff(levels) >= 0).all()
    assert levels[4] == pytest.approx(0.65)


@pytest.mark.parametrize(
    "change",
    [
        {"centre": (0.0,)},
        {"scale": (0.0,) * 11},
        {"scores": (1.0, 0.0), "dice": (0.5, 0.6)},
        {"dice": (2.0,), "scores": (0.0,)},
    ],
)
def test_numbers_that_do_not_fit_are_refused(model, change):
    with pytest.raises(SpecError):
        dataclasses.replace(model, **change)


def make_confidence(model: StructureModel, **changes: object) -> Confidence:
    return Confidence((dataclasses.replace(model, **changes),), (), 0.9, "patients", 40, 160)


def test_a_bundle_keeps_its_calibration(model, tmp_path):
    bundle = make_bundle(tmp_path)
    confidence = make_confidence(model)
    assert from_mapping(Confidence, to_mapping(confidence)) == confidence
    write_with_confidence(tmp_path / "sure.bedside", bundle, confidence)
    sure = read_bundle(tmp_path / "sure.bedside")
    assert sure.confidence == confidence
    write_with_card(tmp_path / "card.bedside", sure, make_card())
    assert read_bundle(tmp_path / "card.bedside").confidence == confidence
    write_with_confidence(tmp_path / "again.bedside", sure, None)
    assert read_bundle(tmp_path / "again.bedside").sha256 == bundle.sha256


def test_a_damaged_calibration_is_refused(model, tmp_path):
    bundle = make_bundle(tmp_path)
    broken = make_confidence(model)
    object.__setattr__(broken, "level", 2.0)
    with pytest.raises(BundleError, match="level"):
        write_with_confidence(tmp_path / "broken.bedside", bundle, broken)
    assert not (tmp_path / "broken.bedside").exists()


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A spec with steps for pictures, and a session with fresh weights."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"))
    spec = dataclasses.replace(make_spec(), preprocess=(Grey(), Fit(), ScalePercentile()))
    with open_segmenter(bundle, backend="openvino", precision="f32").session as session:
        yield spec, session


def make_film(side: int = 60) -> ImageSequence:
    rng = np.random.default_rng(0)
    return ImageSequence.from_array(rng.integers(0, 256, (3, 1, side, side), dtype=np.uint8))


def test_labels_do_not_depend_on_the_calibration(opened, model):
    sure = Segmenter(*opened, confidence=make_confidence(model)).segment_sequence(make_film())
    plain = Segmenter(*opened).segment_sequence(make_film())
    np.testing.assert_array_equal(sure.labels.array, plain.labels.array)
    assert (plain.confidence, plain.frame_confidence, plain.sums) == ({}, (), None)


def test_each_frame_has_a_confidence_and_the_film_that_of_its_median_frame(opened, model):
    inner = Segmenter(*opened, confidence=make_confidence(model)).segment_sequence(make_film())
    drawn = [frame["inner"].predicted_dice for frame in inner.frame_confidence if frame]
    assert len(inner.frame_confidence) == 3
    assert drawn
    assert inner.confidence["inner"].predicted_dice == sorted(drawn)[(len(drawn) - 1) // 2]
    found = inner.confidence["inner"]
    assert 0 <= found.low <= found.predicted_dice <= found.high <= 1


def test_a_structure_that_is_not_to_be_trusted_is_named_in_a_warning(opened, model):
    doubted = make_confidence(model, least_dice=1.0)
    found = Segmenter(*opened, confidence=doubted).segment_sequence(make_film())
    assert not found.confidence["inner"].trusted
    assert [text for text in found.warnings if text.startswith("inner: ")]
    trusted = make_confidence(model, least_dice=0.0)
    found = Segmenter(*opened, confidence=trusted).segment_sequence(make_film())
    assert found.confidence["inner"].trusted
    assert not [text for text in found.warnings if text.startswith("inner: ")]


def test_results_have_the_confidence_of_the_bundle(model, tmp_path):
    bundle = make_bundle(tmp_path)
    path = tmp_path / "sure.bedside"
    write_with_confidence(path, bundle, make_confidence(model))
    picture = np.random.default_rng(1).random((64, 64), np.float32)
    with load(path, backend="openvino", precision="f32") as loaded:
        result = loaded.segment(picture, modality="US", force=True)
    assert result.confidence.keys() <= {"inner"}
    assert result.frame_confidence[0] == result.confidence


def test_tails_need_two_ends():
    with pytest.raises(SpecError):
        Tails(low=float("nan"), high=1.0)


def test_measurements_of_a_film_have_intervals_in_json_table_and_page(model, tmp_path):
    tails = {name: Tails(0.5, 1.0) for name in ("area", "fractional_area_change")}
    path = tmp_path / "sure.bedside"
    confidence = make_confidence(model, measurement_tails=tails)
    write_with_confidence(path, make_bundle(tmp_path), confidence)
    with load(path, backend="openvino", precision="f32") as loaded:
        result = loaded.segment(make_film(64), force=True)
    inner = result.measurements["inner"]
    assert inner.confidence == result.confidence["inner"]
    assert "confidence" not in to_mapping(result.measurements["outer"])
    for area, span, frame in zip(
        inner.area_px, inner.intervals["area_px"], result.frame_confidence, strict=True
    ):
        error = area * (1.02 - frame["inner"].predicted_dice)
        assert span == pytest.approx((max(0, area - 0.5 * error), area + error), abs=1e-3)
    change = inner.fractional_area_change
    (span,) = inner.intervals["fractional_area_change"]
    assert span[0] <= change.fraction <= span[1]
    (row, _) = measurement_rows(result.report)
    assert row["largest_area_px_low"] < row["largest_area_px"] < row["largest_area_px_high"]
    assert row["predicted_dice_low"] <= row["predicted_dice"]
    page = to_html(result.report, picture=b"\xff\xd8")
    assert "How sure" in page
    assert f"{inner.confidence.low:.2f} to {inner.confidence.high:.2f}" in page


def test_the_outline_of_an_untrusted_structure_is_dashed(model):
    labels = np.zeros((2, 64, 64), np.uint8)
    labels[:, 8:56, 8:56] = 1
    film = ImageSequence.from_array(np.zeros((2, 1, 64, 64), np.uint8))
    sure, unsure = (
        {"inner": StructureConfidence(0.9, 0.8, 1.0, trusted=trusted)} for trusted in (True, False)
    )
    plan = plan_overlay(film, LabelMap(labels), make_spec().labels, confidence=(sure, unsure))
    whole, dashed = (
        np.count_nonzero((draw_frame(plan, index) == (255, 0, 0)).all(axis=-1)) for index in (0, 1)
    )
    assert 0.3 * whole < dashed < 0.7 * whole


def test_a_fraction_ends_at_the_whole(model):
    tails = {"fractional_area_change": Tails(3.0, 3.0), "area": Tails(30.0, 30.0)}
    wide = dataclasses.replace(model, measurement_tails=tails, doubted_measurement_tails={})
    low, high = wide.bound_measurement("fractional_area_change", 0.6, predicted_dice=0.5)
    assert low < 0 < high == 1.0
    assert wide.bound_measurement("area", 100.0, predicted_dice=0.5)[0] == 0.0

"""Metrics against values derived by hand, and against MONAI and surface-distance."""

import warnings

import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.evaluation.metrics import dice, iou, surface_distances

# MONAI keeps distances in float32, whose step is 1.2e-7 of the value.
MONAI_RELATIVE = 1e-6
SEEDS = range(12)


def random_masks(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Draw two ragged, overlapping masks, some of which touch the border of the grid."""
    rng = np.random.default_rng(seed)
    place = np.indices(shape, dtype=float)
    masks = []
    for _ in range(2):
        centre = [rng.uniform(0.2, 0.8) * size for size in shape]
        radii = [rng.uniform(0.15, 0.4) * size for size in shape]
        distance = sum(
            ((axis - c) / r) ** 2 for axis, c, r in zip(place, centre, radii, strict=True)
        )
        masks.append(distance + rng.normal(0, 0.25, shape) < 1)
    return masks[0], masks[1]


def rectangle(shape: tuple[int, ...], *bounds: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(low, high) for low, high in bounds)] = True
    return mask


def test_a_shift_by_two_columns_of_six_overlaps_by_two_thirds():
    truth = rectangle((12, 20), (2, 8), (3, 9))
    prediction = rectangle((12, 20), (2, 8), (5, 11))
    # 6 x 6 each, 6 x 4 in common.
    assert dice(truth, prediction) == pytest.approx(2 * 24 / 72)
    assert iou(truth, prediction) == pytest.approx(24 / 48)


def test_a_shift_along_one_axis_is_measured_with_that_axis_spacing():
    truth = rectangle((30, 30), (10, 20), (10, 20))
    down = rectangle((30, 30), (13, 23), (10, 20))
    right = rectangle((30, 30), (10, 20), (13, 23))
    assert surface_distances(truth, down, spacing_mm=(0.5, 2.0)).hd_mm == pytest.approx(1.5)
    assert surface_distances(truth, right, spacing_mm=(0.5, 2.0)).hd_mm == pytest.approx(6.0)


def test_lines_two_voxels_apart_on_an_anisotropic_grid():
    truth = rectangle((9, 9), (2, 3), (1, 8))
    prediction = rectangle((9, 9), (4, 5), (1, 8))
    result = surface_distances(truth, prediction, spacing_mm=(0.75, 9.0))
    # Every voxel of one line lies 2 rows of 0.75 mm from the other line.
    assert (result.asd_mm, result.hd95_mm, result.hd_mm) == (1.5, 1.5, 1.5)


def test_asd_and_hd95_of_two_points_against_one():
    truth = rectangle((1, 11), (0, 1), (0, 1))
    prediction = truth | rectangle((1, 11), (0, 1), (10, 11))
    result = surface_distances(truth, prediction, spacing_mm=(1.0, 0.3))
    # Truth to prediction: 0. Prediction to truth: 0 and 3 mm. 95 % of the way from 0 to 3
    # is 2.85, the larger of the two directed percentiles; the mean of all three is 1.
    assert result.asd_mm == pytest.approx(1.0)
    assert result.hd95_mm == pytest.approx(2.85)
    assert result.hd_mm == pytest.approx(3.0)


def test_three_dimensions_use_all_three_spacings():
    truth = rectangle((9, 9, 9), (1, 2), (1, 2), (1, 2))
    prediction = rectangle((9, 9, 9), (3, 4), (2, 3), (6, 7))
    result = surface_distances(truth, prediction, spacing_mm=(1.5, 4.0, 2.4))
    assert result.hd_mm == pytest.approx(np.sqrt(3.0**2 + 4.0**2 + 12.0**2))


def test_both_empty_have_neither_overlap_nor_distance():
    empty = np.zeros((5, 6), dtype=bool)
    assert np.isnan([dice(empty, empty), iou(empty, empty)]).all()
    result = surface_distances(empty, empty, spacing_mm=(1.0, 1.0))
    assert np.isnan([result.asd_mm, result.hd95_mm, result.hd_mm]).all()


@pytest.mark.parametrize("missed", [True, False])
def test_one_empty_is_infinitely_far(missed):
    empty, full = np.zeros((5, 6), dtype=bool), rectangle((5, 6), (1, 3), (2, 5))
    truth, prediction = (full, empty) if missed else (empty, full)
    assert (dice(truth, prediction), iou(truth, prediction)) == (0.0, 0.0)
    result = surface_distances(truth, prediction, spacing_mm=(1.0, 1.0))
    assert np.isposinf([result.asd_mm, result.hd95_mm, result.hd_mm]).all()


def test_distances_do_not_depend_on_the_background_around_them():
    truth, prediction = random_masks(3, (24, 31))
    around = [np.pad(mask, ((7, 0), (0, 40))) for mask in (truth, prediction)]
    spacing_mm = (0.4, 1.1)
    assert surface_distances(truth, prediction, spacing_mm=spacing_mm) == surface_distances(
        *around, spacing_mm=spacing_mm
    )


def test_masks_are_left_as_they_were():
    truth, prediction = random_masks(5, (20, 20))
    before = truth.copy(), prediction.copy()
    surface_distances(truth, prediction, spacing_mm=(1.0, 2.0))
    dice(truth, prediction)
    assert np.array_equal(truth, before[0])
    assert np.array_equal(prediction, before[1])


def test_masks_on_different_grids_are_refused():
    with pytest.raises(GeometryError, match=r"\(4, 4\).*\(4, 5\)"):
        dice(np.zeros((4, 4), bool), np.zeros((4, 5), bool))


def test_label_maps_are_refused_as_masks():
    with pytest.raises(GeometryError, match="boolean"):
        dice(np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool))


@pytest.mark.parametrize("spacing_mm", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, np.nan)])
def test_a_spacing_that_cannot_scale_is_refused(spacing_mm):
    mask = np.ones((3, 3), bool)
    with pytest.raises(GeometryError, match="positive"):
        surface_distances(mask, mask, spacing_mm=spacing_mm)


# --- Independent implementations -----------------------------------------------------------


def monai_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...]
) -> tuple[float, float, float]:
    """Ask MONAI for (ASD, HD95, HD); it warns of empty masks, which are asked for here."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    one_hot = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asd = metrics.compute_average_surface_distance(
            *one_hot, include_background=True, symmetric=True, spacing=spacing_mm
        )
        hd95, hd = (
            metrics.compute_hausdorff_distance(
                *one_hot, include_background=True, percentile=percentile, spacing=spacing_mm
            )
            for percentile in (95, None)
        )
    return float(asd), float(hd95), float(hd)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(33, 47), (12, 21, 17)])
def test_distances_equal_monai(seed, shape):
    truth, prediction = random_masks(seed, shape)
    spacing_mm = tuple(np.random.default_rng(seed).uniform(0.3, 4.0, len(shape)).tolist())
    ours = surface_distances(truth, prediction, spacing_mm=spacing_mm)
    assert (ours.asd_mm, ours.hd95_mm, ours.hd_mm) == pytest.approx(
        monai_distances(truth, prediction, spacing_mm), rel=MONAI_RELATIVE
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_overlap_equals_monai(seed):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    truth, prediction = random_masks(seed, (25, 40))
    one_hot = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    theirs = [
        float(compute(*one_hot, include_background=True, ignore_empty=False))
        for compute in (metrics.compute_dice, metrics.compute_iou)
    ]
    assert [dice(truth, prediction), iou(truth, prediction)] == pytest.approx(
        theirs, rel=MONAI_RELATIVE
    )


def test_empty_masks_equal_monai():
    empty, full = np.zeros((9, 14), bool), rectangle((9, 14), (2, 6), (3, 9))
    for truth, prediction in [(empty, empty), (full, empty), (empty, full)]:
        ours = surface_distances(truth, prediction, spacing_mm=(0.7, 2.0))
        asd, _, hd = monai_distances(truth, prediction, (0.7, 2.0))
        assert (ours.asd_mm, ours.hd_mm) == pytest.approx((asd, hd), nan_ok=True)
        # MONAI's HD95 of an empty mask is NaN, since torch.quantile interpolates between two
        # infinities; ours stays infinite, like its HD.
        assert ours.hd95_mm == pytest.approx(hd, nan_ok=True)


# surface-distance (Nikolov et al. 2018) measures another surface: between the corners of
# voxels, where the neighbourhood of a corner is neither all in nor all out, and it weights each
# point by the area it stands for. So Dice must be equal, and distances as near as the two
# surfaces are: each of its points lies half a voxel diagonal from one of ours and the other way
# round, which at both ends of a distance makes a diagonal at most. For HD that is a bound; for
# ASD and HD95, which also depend on the weights, it held on all masks drawn here.


@pytest.fixture
def deepmind(monkeypatch):
    """Give a function that asks surface-distance for (ASD, HD95, HD).

    The package is older than NumPy 2 and SciPy 1.8: it wants `np.Inf`, and warns of
    `scipy.ndimage.filters` and `.morphology`, deprecated names of the same functions.
    """
    surface_distance = pytest.importorskip("surface_distance")
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)

    def measure(truth, prediction, spacing_mm):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = surface_distance.compute_surface_distances(truth, prediction, spacing_mm)
        areas = np.concatenate((found["surfel_areas_gt"], found["surfel_areas_pred"]))
        lengths = np.concatenate((found["distances_gt_to_pred"], found["distances_pred_to_gt"]))
        hd95, hd = (surface_distance.compute_robust_hausdorff(found, p) for p in (95, 100))
        return (areas * lengths).sum() / areas.sum(), hd95, hd

    return measure


@pytest.mark.parametrize("seed", SEEDS)
def test_dice_equals_surface_distance(seed):
    surface_distance = pytest.importorskip("surface_distance")
    truth, prediction = random_masks(seed, (25, 40))
    assert dice(truth, prediction) == surface_distance.compute_dice_coefficient(truth, prediction)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(33, 47), (12, 21, 17)])
def test_distances_equal_surface_distance_within_a_voxel_diagonal(seed, shape, deepmind):
    truth, prediction = random_masks(seed, shape)
    spacing_mm = tuple(np.random.default_rng(seed).uniform(0.3, 4.0, len(shape)).tolist())
    ours = surface_distances(truth, prediction, spacing_mm=spacing_mm)
    assert (ours.asd_mm, ours.hd95_mm, ours.hd_mm) == pytest.approx(
        deepmind(truth, prediction, spacing_mm), abs=np.linalg.norm(spacing_mm) + 1e-9
    )


@pytest.mark.parametrize("shift", [1, 4, 9])
def test_a_shifted_band_is_as_far_as_surface_distance_says(shift, deepmind):
    # Where surfaces are parallel, neither the choice of points nor their weight matters.
    truth = rectangle((40, 40), (5, 20), (0, 40))
    prediction = rectangle((40, 40), (5 + shift, 20 + shift), (0, 40))
    ours = surface_distances(truth, prediction, spacing_mm=(0.6, 1.7))
    *_, hd = deepmind(truth, prediction, (0.6, 1.7))
    assert ours.hd_mm == pytest.approx(hd) == pytest.approx(0.6 * shift)


def test_one_empty_mask_is_as_far_as_surface_distance_says(deepmind):
    empty, full = np.zeros((9, 14), bool), rectangle((9, 14), (2, 6), (3, 9))
    for truth, prediction in [(full, empty), (empty, full)]:
        ours = surface_distances(truth, prediction, spacing_mm=(0.7, 2.0))
        assert (ours.asd_mm, ours.hd95_mm, ours.hd_mm) == deepmind(truth, prediction, (0.7, 2.0))

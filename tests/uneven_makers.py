"""CT whose slices are not evenly spaced, with a ball of known place and volume in it."""

import numpy as np
import pydicom

from dicom_makers import make_affine, make_enhanced, make_slices, write_series
from makers import write_dicom

SIZE = (44, 48)
SPACING = (1.1, 1.0)
RADIUS_MM = 16.0
BALL_ML = 4 / 3 * np.pi * RADIUS_MM**3 / 1e3
TILT = (float(np.tan(np.radians(18.5))), 0.0)
BRIGHT, DARK = 2024, 24


def lay(*blocks, between=()):
    """Heights and thickness of blocks of slices, each (count, thickness, step).

    `between` gives the distances from block to block; slices touch there without one.
    """
    heights, thickness = [], []
    for number, (count, thick, step) in enumerate(blocks):
        if heights:
            gap = (thickness[-1] + thick) / 2
            start = heights[-1] + (between[number - 1] if between else gap)
        else:
            start = 0.0
        heights += [start + step * index for index in range(count)]
        thickness += [thick] * count
    return np.array(heights), thickness


def _interleaved():
    thickness = [3.0, 5.0] * 7
    steps = [(a + b) / 2 * share for a, b, share in zip(
        thickness, thickness[1:], [1, 0.8] * 7, strict=False)]  # fmt: skip
    return np.concatenate([[0.0], np.cumsum(steps)]), thickness


HEAD_CT = lay((14, 4.0, 4.002), (14, 7.0, 6.999), between=(1.08,))
FORMS = {
    "head CT of a GE scanner": HEAD_CT,
    "two thicknesses": lay((10, 3.0, 3.0), (8, 5.0, 5.0)),
    "two with overlap": lay((10, 3.0, 3.0), (8, 5.0, 5.0), between=(1.2,)),
    "blocks that interlace": lay((10, 3.0, 3.0), (8, 5.0, 5.0), between=(-4.6,)),
    "three blocks": lay((8, 2.0, 2.0), (6, 4.0, 4.0), (5, 6.0, 6.0)),
    "thick to thin": lay((7, 5.0, 5.0), (16, 1.5, 1.5)),
    "every step another": _interleaved(),
    "two at one place": lay((10, 3.0, 3.0), (8, 5.0, 5.0), between=(0.0,)),
    "gaps everywhere": lay((9, 2.5, 3.0), (8, 4.0, 4.8), between=(3.9,)),
    "overlap everywhere": lay((14, 4.0, 2.0), (10, 6.0, 3.0), between=(2.5,)),
}
"""Heights along the normal and thickness of complete scans; those at heights are mm."""
FORMS["blocks that interlace"] = tuple(
    np.array(each)[np.argsort(FORMS["blocks that interlace"][0], kind="stable")]
    for each in FORMS["blocks that interlace"]
)


def middle_mm(heights, affine):
    """Where the ball is: in the middle of the scan, a little off."""
    height = (heights[0] + heights[-1]) / 2 + 1.3
    rows, columns = (SIZE[0] - 1) / 2 + 2.0, (SIZE[1] - 1) / 2 - 3.0
    return affine[:3] @ [height, rows, columns, 1]


def draw_ball(heights, thickness, affine):
    """Draw the ball as a scanner sees it: each slice is the mean over its thickness.

    Returns:
        (D, H, W) uint16.
    """
    centre = middle_mm(heights, affine)
    rows, columns = np.indices(SIZE)
    slices = []
    for height, thick in zip(heights, thickness, strict=True):
        parts = []
        for share in np.linspace(-0.45, 0.45, 10):
            index = np.stack([np.full(SIZE, height), rows, columns])
            places = np.tensordot(affine[:3, :3], index, 1) + affine[:3, 3][:, None, None]
            places += share * thick * (affine[:3, 0] / np.linalg.norm(affine[:3, 0]))[:, None, None]
            inside = np.linalg.norm(places - centre[:, None, None], axis=0) <= RADIUS_MM
            parts.append(inside)
        slices.append(DARK + (BRIGHT - DARK) * np.mean(parts, axis=0))
    return np.rint(slices).astype(np.uint16)


def make_uneven(form, *, orientation=(1, 0, 0, 0, 1, 0), lean=(0.0, 0.0), kept=None, edit=None):
    """Make the datasets of a series in a form, and its affine of 1 mm along the normal.

    Args:
        form: Heights and thickness.
        orientation: DICOM's.
        lean: Sideways mm for each mm of height.
        kept: Slices that are there; all if None.
        edit: Called with each dataset and its index.
    """
    heights, thickness = form
    affine = make_affine(orientation, spacing=(1.0, *SPACING), lean=lean)

    def place(dataset, index):
        corner = affine[:3] @ [heights[index], 0, 0, 1]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in corner]
        dataset.SliceThickness = f"{thickness[index]:g}"
        if edit:
            edit(dataset, index)

    datasets = make_slices(draw_ball(heights, thickness, affine), affine, edit=place)
    kept = range(len(datasets)) if kept is None else kept
    return [datasets[index] for index in kept], affine


def write_uneven(folder, form, *, kind="series", **options):
    """Write a series, or one enhanced file with the same slices; give its path and affine."""
    datasets, affine = make_uneven(form, **options)
    if kind == "series":
        write_series(datasets, folder / "scan")
        return folder / "scan", affine
    pixels = np.stack([dataset.pixel_array for dataset in datasets])
    enhanced = make_enhanced(pixels, affine, order=list(range(len(pixels))))
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    del shared.PixelMeasuresSequence
    groups = enhanced.PerFrameFunctionalGroupsSequence
    for group, dataset in zip(groups, datasets, strict=True):
        measures = pydicom.Dataset()
        measures.PixelSpacing, measures.SliceThickness = spacing, dataset.SliceThickness
        group.PixelMeasuresSequence = [measures]
        group.PlanePositionSequence[0].ImagePositionPatient = dataset.ImagePositionPatient
    return write_dicom(enhanced, folder / "scan.dcm"), affine

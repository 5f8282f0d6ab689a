"""What the axes and the scale of an image mean for a bundle, where its file leaves it open.

A wrong guess would report volumes of cines, and millimetres that nobody measured.
"""

from dataclasses import replace

import numpy as np

from bedside.errors import GeometryError
from bedside.spec import DeploymentSpec
from bedside.spec.deployment import FILMED
from bedside.volume import ImageSequence

# Distance between pixels, and size of the whole plane, that a kind of image can have, in mm.
_PIXEL_MM = {"US": (0.005, 2.0), "IVUS": (0.001, 0.2), "CT": (0.02, 6.0), "MR": (0.02, 12.0)}
_PLANE_MM = {"US": (3.0, 500.0), "IVUS": (1.0, 40.0), "CT": (8.0, 1100.0), "MR": (8.0, 1100.0)}
_LONGEST_SCAN_MM = 2500.0

UNKNOWN_AXIS = (
    "the file does not say whether its third axis is time or space; for this kind of image it was "
    "taken for time: frames with areas, and no volume. If they are the slices of a volume, pass "
    "--third-axis space"
)
"""The warning that frames were taken for a film."""


def resolve_axes(sequence: ImageSequence, spec: DeploymentSpec) -> ImageSequence:
    """Resolve what the file leaves open: whether frames are time or slices, and the scale.

    Frames in time lose the place and the distance of slices. A scale that is nothing but what
    programs write by default is dropped; one that a bundle of this kind of image can hardly
    have is doubted. Each with a warning; what is settled is left as it is.

    Args:
        sequence: The image.
        spec: The bundle's deployment.

    Raises:
        GeometryError: If frames follow in time, and the bundle takes the slices of a scan; or
            the image's place is that of another grid.
    """
    _check_place(sequence)
    return _resolve_scale(_resolve_axis(sequence, spec), spec)


def _check_place(sequence: ImageSequence) -> None:
    """Refuse a geometry whose axes are not those of the frames.

    Raises:
        GeometryError: If they are not as many, or pixels are not as far apart.
    """
    if sequence.geometry is None:
        return
    frames, _, *plane = sequence.shape
    if sequence.geometry.shape != (frames, *plane):
        raise GeometryError(
            f"its geometry is of an array {sequence.geometry.shape}, and there are {frames} "
            "frames of "
            f"{tuple(plane)}. Give its axes in the array's order, (D, H, W)."
        )
    placed = sequence.geometry.spacing_mm[1:]
    if sequence.spacing_mm is not None and not np.allclose(placed, sequence.spacing_mm, rtol=0.01):
        raise GeometryError(
            f"its pixels are {sequence.spacing_mm} mm apart, and {placed} mm under its "
            "affine. Give "
            "the affine's columns in the array's order, (D, H, W): nibabel's are (x, y, z)."
        )


def _resolve_axis(sequence: ImageSequence, spec: DeploymentSpec) -> ImageSequence:
    """Decide whether frames are slices.

    Raises:
        GeometryError: If they follow in time, and the bundle takes the slices of a scan.
    """
    if len(sequence) == 1:
        return sequence
    if spec.model.spatial_dims == 3:
        if sequence.third_axis == "time":
            raise GeometryError(
                f'its {len(sequence)} frames follow each other in time, bundle "{spec.name}" '
                "takes the "
                "slices of a scan. Select one time of a scan, or choose another bundle."
            )
        return sequence
    if sequence.third_axis is None and sequence.modality is None and sequence.has_slices:
        if spec.input.modality not in FILMED:
            return sequence
        sequence = replace(sequence, third_axis="time", warnings=(*sequence.warnings, UNKNOWN_AXIS))
    if sequence.third_axis == "time":
        return replace(sequence, geometry=None, slice_spacing_mm=None, uneven=None)
    return sequence


def _resolve_scale(sequence: ImageSequence, spec: DeploymentSpec) -> ImageSequence:
    """Drop a default scale, and warn of an implausible one."""
    if sequence.spacing_mm is None:
        return sequence
    kind = spec.input.modality
    words = " x ".join(f"{mm:g}" for mm in sequence.voxel_mm or sequence.spacing_mm)
    # DICOM that places every slice has measured, or resampled to, its round millimetres.
    placed = sequence.modality is not None and sequence.geometry is not None
    round_px = kind in FILMED and sequence.spacing_mm == (1.0, 1.0) and not placed
    if sequence.default_grid or round_px:
        text = (
            f"the spacing of {words} mm is what programs write when they know none, and not "
            "measured: sizes are given in pixels, and not in mm, cm2 or ml"
        )
        return _without_scale(sequence, text, keep=spec.model.spatial_dims == 3)
    doubt = _find_doubt(sequence, kind)
    if doubt is None:
        return sequence
    text = (
        f"the spacing of {words} mm is hardly possible for {kind}: {doubt}. Sizes in mm, cm2 and "
        "ml may not hold"
    )
    return (
        sequence
        if text in sequence.warnings
        else replace(sequence, warnings=(*sequence.warnings, text))
    )


def _without_scale(sequence: ImageSequence, text: str, *, keep: bool) -> ImageSequence:
    """Remove the scale, or keep it for a network that must resample by it."""
    warnings = sequence.warnings if text in sequence.warnings else (*sequence.warnings, text)
    if keep:
        return replace(sequence, warnings=warnings, default_grid=True)
    return replace(
        sequence,
        warnings=warnings,
        third_axis="space" if sequence.has_slices else sequence.third_axis,
        spacing_mm=None,
        slice_spacing_mm=None,
    )


def _find_doubt(sequence: ImageSequence, kind: str) -> str | None:
    """Why a scale is implausible for a kind of image; None if it is plausible."""
    assert sequence.spacing_mm is not None
    frames, _, *plane = sequence.shape
    sides_mm = [size * mm for size, mm in zip(plane, sequence.spacing_mm, strict=True)]
    low, high = _PIXEL_MM.get(kind, (0.0, float("inf")))
    if not low <= min(sequence.spacing_mm) or max(sequence.spacing_mm) > high:
        return f"pixels are {low:g} to {high:g} mm wide"
    low, high = _PLANE_MM.get(kind, (0.0, float("inf")))
    if max(sides_mm) < low or max(sides_mm) > high:
        return f"an image would be {max(sides_mm):.3g} mm wide"
    along_mm = frames * (sequence.slice_spacing_mm or 0.0)
    return f"the scan would be {along_mm:.4g} mm long" if along_mm > _LONGEST_SCAN_MM else None

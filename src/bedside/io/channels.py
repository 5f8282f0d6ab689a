"""One image in several files, a channel each, all on one grid."""

import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bedside.errors import FormatError, GeometryError, UsageError
from bedside.io.nifti.grid import NiftiGrid
from bedside.io.opened import Source
from bedside.spec import InputSpec
from bedside.volume import ImageSequence, corners_apart

# Affines are rounded to float32 and quaternions; real shifts are larger.
_GRID_TOLERANCE_VOX = 0.05


def join_channels(sources: Sequence[Source]) -> Source:
    """Return one image with the channels of several on the same grid.

    Args:
        sources: At least one; the result has the file and header of the first.

    Raises:
        GeometryError: If one lies on another grid; it is named.
    """
    first = sources[0]
    for other in sources[1:]:
        check_same_grid(first, other, what="channel")
    if len(sources) == 1:
        return first
    cines = [source.sequence for source in sources]
    decoders: list[Callable[[int], np.ndarray]] = [sequence.decode for sequence in cines]
    frames, _, height, width = first.sequence.shape
    sequence = replace(
        first.sequence,
        shape=(frames, sum(sequence.shape[1] for sequence in cines), height, width),
        decode=lambda index: np.concatenate([decode(index) for decode in decoders]),
        warnings=tuple(dict.fromkeys(text for sequence in cines for text in sequence.warnings)),
    )
    files = tuple(path for source in sources for path in source.files)
    return replace(first, sequence=sequence, files=files)


def join_named(sources: Mapping[str, Source], wanted: InputSpec) -> Source:
    """Return one image with the channels that a network takes, from images by their names.

    Args:
        sources: Grey images on one grid, by the name of their channel.
        wanted: Names of the channels, in order, and which of them may be missing.

    Returns:
        The image; a channel that is missing is 0 throughout, and named in the warnings.

    Raises:
        UsageError: If the network's channels have no names, one given is none of them, or two are
            the same image.
        FormatError: If a channel is missing that must be there, or an image is in colour.
        GeometryError: If one lies on another grid.
    """
    names = wanted.channel_names
    if not names:
        raise UsageError("the channels of this bundle have no names; give the files in order.")
    for name, source in sources.items():
        if name not in names:
            plain = {each.lower(): each for each in names}
            near = plain[difflib.get_close_matches(name.lower(), plain, n=1, cutoff=0.0)[0]]
            raise UsageError(
                f'no channel "{name}": this bundle takes {", ".join(names)}. Did you mean "{near}"?'
            )
        if source.sequence.shape[1] != 1:
            raise FormatError(f"channel {name}: {source.path} is in colour; expected a grey image.")
    _check_different(sources)
    missing = [name for name in names if name not in sources]
    needed = [name for name in missing if name not in wanted.optional_channels]
    if needed or not sources:
        can_miss = ", ".join(wanted.optional_channels) or "none"
        raise FormatError(
            f"no channel {', '.join(needed or missing)} was given. This bundle takes "
            f"{', '.join(names)}, of which these may be missing, but not all: {can_miss}."
        )
    first = next(sources[name] for name in names if name in sources)
    blank = replace(first, sequence=_blank(first.sequence))
    joined = join_channels([sources.get(name, blank) for name in names])
    if not missing:
        return joined
    warning = (
        f"channel {', '.join(missing)} was not given: the network works without, but its labels "
        "are less certain"
    )
    warnings = (*joined.sequence.warnings, warning)
    return replace(joined, sequence=replace(joined.sequence, warnings=warnings))


def _check_different(sources: Mapping[str, Source]) -> None:
    """Refuse one image that is given as two channels: no two sequences of a patient are equal.

    Raises:
        UsageError: If it is.
    """
    middle = {
        name: source.sequence.decode(len(source.sequence) // 2) for name, source in sources.items()
    }
    for (name, frame), (other, second) in itertools.combinations(middle.items(), 2):
        if np.array_equal(frame, second) and frame.min() < frame.max():
            raise UsageError(
                f"channels {name} and {other} are the same image, {sources[name].path} and "
                f"{sources[other].path}. Leave one out, or name its own file."
            )


def _blank(sequence: ImageSequence) -> ImageSequence:
    """An image of zeros like another."""
    return replace(sequence, decode=lambda index: np.zeros_like(sequence.decode(index)))


def check_same_grid(image: Source, other: Source, *, what: str) -> None:
    """Check that an image lies on the grid of another.

    Args:
        image: The image with the reference grid.
        other: The image to check.
        what: "labels" or "channel", for the error.

    Raises:
        GeometryError: If size, spacing or place differ.
    """
    frames, _, *plane = image.sequence.shape
    other_frames, _, *other_plane = other.sequence.shape
    if (frames, *plane) != (other_frames, *other_plane):
        raise GeometryError(
            f"{other.path} has (frames, height, width) {(other_frames, *other_plane)} and its "
            f"image {(frames, *plane)}. Resample the {what} to the image's grid."
        )
    if _lies_elsewhere(image, other):
        raise GeometryError(
            f"{other.path} lies elsewhere than {image.path}: their affines differ. "
            f"Resample the {what} to the image's grid."
        )


def _lies_elsewhere(image: Source, other: Source) -> bool:
    """Whether two files place their images differently in the patient."""
    if image.kind == other.kind == "nifti":
        return not _same_place(image.header, other.header)
    if _lie_unevenly(image, other):
        return True
    first, second = image.sequence.geometry, other.sequence.geometry
    if first is None or second is None:
        return False
    apart_mm = corners_apart(first.affine, second.affine, np.array(first.shape))
    return bool((apart_mm > _GRID_TOLERANCE_VOX * min(first.spacing_mm)).any())


def _lie_unevenly(image: Source, other: Source) -> bool:
    """Whether two scans have their slices at different heights."""
    first, second = image.sequence.uneven, other.sequence.uneven
    if first is None or second is None:
        # Images without a place match any other.
        placed = image.sequence.geometry is not None and other.sequence.geometry is not None
        return placed and (first is None) != (second is None)
    apart = np.abs(np.array(first.heights_mm) - second.heights_mm).max()
    return bool(apart > _GRID_TOLERANCE_VOX * min(first.covered_mm[first.covered_mm > 0]))


def _same_place(image: NiftiGrid, truth: NiftiGrid) -> bool:
    """Whether two NIfTI grids of one size agree to a small part of a voxel.

    Where a header has no place in the patient only spacings are compared.
    """
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    tolerance_mm = _GRID_TOLERANCE_VOX * spacing_mm.min()
    sizes = np.array([*image.shape, 1, 1, 1][:3]) - 1
    if not (image.in_patient and truth.in_patient):
        apart = sizes * (np.linalg.norm(truth.affine[:3, :3], axis=0) - spacing_mm)
        return bool((np.abs(apart) <= tolerance_mm).all())
    return bool((corners_apart(image.affine, truth.affine, sizes + 1) <= tolerance_mm).all())

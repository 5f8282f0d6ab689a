"""One case of a data set: an image, its expert labels, and the patient they belong to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bedside.errors import DataError
from bedside.io.picture import NO_SCALE
from bedside.io.source import Source, open_source
from bedside.volume import Cine

if TYPE_CHECKING:
    from bedside.io.nifti import NiftiGrid

# Writers round affines to float32 and quaternions; labels that lie elsewhere are off by more.
_GRID_TOLERANCE_VOX = 0.05


@dataclass(frozen=True)
class Case:
    """An image with expert labels.

    Attributes:
        case_id: Name of the case, unique in its data set.
        patient_id: The patient, so that no split and no interval counts one twice.
        images: Files of the image, one a channel; most images are one file.
        truth: File of the labels, on the image's grid.
        truth_values: Label for each value that the labels' file may hold, 0 included; None
            where values are labels. A value that is not listed is refused.
        spacing_mm: Distances in mm, array order, known from elsewhere than the image's own
            file and put in place of what that says; None to go by the file.
        trust_spacing: Whether the file's own spacing is one; where it is a placeholder there
            is no length in mm, whatever the header says.
        outlined: Whether the labels' file draws closed outlines that are to be filled.
    """

    case_id: str
    patient_id: str
    images: tuple[Path, ...]
    truth: Path
    truth_values: Mapping[int, int] | None = None
    spacing_mm: tuple[float, ...] | None = None
    trust_spacing: bool = True
    outlined: bool = False

    @property
    def image(self) -> Path:
        """The first file of the image, which an error names."""
        return self.images[0]


def relabel_cases(
    cases: Iterable[Case], table: Mapping[str, int], *, labels: Iterable[int]
) -> list[Case]:
    """Let values of the masks stand for labels: 255 for 1, where a program saved white.

    A label that no value stands for may be in the masks as itself. One that a value stands
    for may not, or two structures could become one unnoticed.

    Args:
        cases: The cases; those with a table of values of their own keep it, and `table` is
            applied to the labels that it gives.
        table: Label for each value; an empty one changes nothing.
        labels: The labels there are, background left out.

    Returns:
        The cases with their `truth_values`.

    Example:
        >>> case = Case("a_1", "a", (Path("a.png"),), Path("mask.png"))
        >>> relabel_cases([case], {"255": 1}, labels=(1, 2))[0].truth_values
        {0: 0, 2: 2, 255: 1}
    """
    if not table:
        return list(cases)
    wanted = {int(value): label for value, label in table.items()}
    kept = {0: 0} | {label: label for label in labels if label not in wanted.values()}
    return [
        replace(
            case,
            truth_values=kept | wanted
            if case.truth_values is None
            else {value: wanted.get(label, label) for value, label in case.truth_values.items()},
        )
        for case in cases
    ]


def read_values(case: Case) -> np.ndarray:
    """Read what a case's labels file holds, before it is known which values are labels.

    Returns:
        (frames, height, width), in the stored type.

    Raises:
        DataError: If the file is a colour picture.
        FormatError: If it cannot be read.
    """
    return np.stack([_one_channel(case, frame) for frame in open_source(case.truth).cine])


def read_truth(case: Case, label_values: tuple[int, ...]) -> np.ndarray:
    """Read the expert labels of a case.

    Args:
        case: The case.
        label_values: Values that may occur besides 0, the background.

    Returns:
        (frames, height, width) uint8 on the image's grid.

    Raises:
        DataError: If the labels lie on another grid than the image, are not whole numbers,
            or have a value that is not allowed.
        FormatError: If the image or the labels cannot be read.
    """
    return read_case(case, label_values)[1]


def read_case(case: Case, label_values: tuple[int, ...]) -> tuple[Source, np.ndarray]:
    """Open the image of a case and read its labels: as `read_truth`, with the image.

    Returns:
        The opened image with the spacing that the case says can be trusted, and (frames,
        height, width) uint8 on its grid.

    Raises:
        DataError: As `read_truth`, or if the files of the image differ in grid.
        FormatError: As `read_truth`.
    """
    channels = [open_source(path) for path in case.images]
    image, truth = channels[0], open_source(case.truth)
    for other in channels[1:]:
        _check_same_grid(case, image, other)
    _check_same_grid(case, image, truth)
    frames = np.stack([_one_channel(case, frame) for frame in truth.cine])
    labels = _to_labels(case, frames, label_values)
    cine = _with_spacing(case, _stack([channel.cine for channel in channels]))
    return replace(image, cine=cine), labels


def _to_labels(case: Case, values: np.ndarray, label_values: tuple[int, ...]) -> np.ndarray:
    """Turn what the labels' file holds into labels, uint8.

    Raises:
        DataError: If a value is in no table.
    """
    allowed = (0, *label_values) if case.truth_values is None else tuple(case.truth_values)
    _check_values(case, values, allowed)
    if case.truth_values is None:
        return values.astype(np.uint8)
    labels = np.zeros(values.shape, np.uint8)
    for value, label in case.truth_values.items():
        labels[values == value] = label
    _check_values(case, labels, (0, *label_values))
    return _fill(labels) if case.outlined else labels


def _check_values(case: Case, values: np.ndarray, allowed: tuple[int, ...]) -> None:
    """Refuse a label outside its table.

    Raises:
        DataError: If there is one; it is named.
    """
    strange = [value for value in np.unique(values).tolist() if value not in allowed]
    if strange:
        seen = ", ".join(f"{value:g}" for value in strange[:8])
        raise DataError(
            f"case {case.case_id}: {case.truth} holds the label {seen}; expected only "
            f"{', '.join(map(str, allowed))}. Relabel it, or use a bundle with these labels."
        )


def _fill(labels: np.ndarray) -> np.ndarray:
    """Fill what each label's closed outline goes around, in every frame."""
    filled = labels.copy()
    for frame in filled:
        for value in np.unique(frame[frame > 0]).tolist():
            mask = (frame == value).astype(np.uint8)
            outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            cv2.drawContours(frame, outlines, -1, value, cv2.FILLED)
    return filled


def _stack(cines: Sequence[Cine]) -> Cine:
    """Join cines on one grid, channel after channel."""
    first = cines[0]
    if len(cines) == 1:
        return first
    frames, _, height, width = first.shape
    decoders: list[Callable[[int], np.ndarray]] = [cine.decode for cine in cines]
    return replace(
        first,
        shape=(frames, sum(cine.shape[1] for cine in cines), height, width),
        decode=lambda index: np.concatenate([decode(index) for decode in decoders]),
        warnings=tuple(dict.fromkeys(text for cine in cines for text in cine.warnings)),
    )


def _with_spacing(case: Case, cine: Cine) -> Cine:
    """Give a cine the spacing that its case says can be trusted."""
    if case.spacing_mm is not None:
        row_mm, column_mm = case.spacing_mm[-2:]
        warnings = tuple(text for text in cine.warnings if text != NO_SCALE)
        return replace(cine, spacing_mm=(row_mm, column_mm), warnings=warnings)
    return cine if case.trust_spacing else replace(cine, spacing_mm=None)


def _one_channel(case: Case, frame: np.ndarray) -> np.ndarray:
    """Take the labels out of a frame, grey or grey saved as colour.

    Raises:
        DataError: If the channels differ, so that they are colours and not labels.
    """
    if (frame != frame[:1]).any():
        raise DataError(
            f"case {case.case_id}: {case.truth} is a colour picture; expected label values "
            "in one channel."
        )
    return np.asarray(frame[0])


def _check_same_grid(case: Case, image: Source, other: Source) -> None:
    """Refuse labels, or another channel, that do not lie on their image.

    Raises:
        DataError: If size, spacing or place differ.
    """
    what = "labels" if other.path == case.truth else "channel"
    frames, _, *plane = image.cine.shape
    other_frames, _, *other_plane = other.cine.shape
    if (frames, *plane) != (other_frames, *other_plane):
        raise DataError(
            f"case {case.case_id}: {other.path} has (frames, height, width) "
            f"{(other_frames, *other_plane)} and its image {(frames, *plane)}. "
            f"Resample the {what} to the image's grid."
        )
    if image.kind == other.kind == "nifti" and not _same_place(image.header, other.header):
        raise DataError(
            f"case {case.case_id}: {other.path} lies elsewhere than {image.path}: their "
            f"affines differ. Resample the {what} to the image's grid."
        )


def _same_place(image: "NiftiGrid", truth: "NiftiGrid") -> bool:
    """Tell whether two NIfTI grids of one size agree to a small part of a voxel.

    A header that does not say where its image lies has only a spacing to compare.
    """
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    tolerance_mm = _GRID_TOLERANCE_VOX * spacing_mm.min()
    sizes = np.array([*image.shape, 1, 1, 1][:3]) - 1
    if not (_is_placed(image) and _is_placed(truth)):
        apart = sizes * (np.linalg.norm(truth.affine[:3, :3], axis=0) - spacing_mm)
        return bool((np.abs(apart) <= tolerance_mm).all())
    corners = np.indices((2, 2, 2)).reshape(3, -1) * sizes[:, None]
    difference = truth.affine - image.affine
    apart = difference[:3, :3] @ corners + difference[:3, 3:]
    return bool((np.linalg.norm(apart, axis=0) <= tolerance_mm).all())


def _is_placed(grid: "NiftiGrid") -> bool:
    """Tell whether a NIfTI header says where its image lies in the patient."""
    return int(grid.header["qform_code"]) != 0 or int(grid.header["sform_code"]) != 0

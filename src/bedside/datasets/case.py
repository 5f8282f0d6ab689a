"""One case of a data set: an image, its expert labels, and the patient they belong to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from bedside.datasets.spheres import Sphere, draw_spheres
from bedside.errors import DataError, FormatError, GeometryError
from bedside.io.channels import check_same_grid, join_channels
from bedside.io.pixel_spacing import rescale
from bedside.io.raster import is_turned
from bedside.io.source import Source, open_source
from bedside.volume import ImageSequence


@dataclass(frozen=True)
class Case:
    """An image with expert labels.

    Attributes:
        case_id: Name of the case, unique in its data set.
        patient_id: The patient; splits and confidence intervals count each patient once.
        person_id: The most likely person, where `patient_id` names a block of people because
            splits are only possible by blocks; None where it names the patient.
        images: Files of the image, one per channel; most images are one file.
        truth: File of the labels, on the image's grid.
        truth_values: Label for each value that the labels' file may hold, 0 included; None
            where values are labels. A value that is not listed is refused.
        spacing_mm: Spacing in mm, array order, from another source than the image's file,
            which it replaces; None to go by the file.
        trust_spacing: Whether the file's own spacing is real; a placeholder gives no lengths
            in mm.
        outlined: Whether the labels' file draws closed outlines that are to be filled.
        spheres: Findings that are the truth, label 1; None where it is a file of labels.
        reference: Measurements by experts, by name; the name ends in the unit.
        unit: The independent unit that `person` names, in the plural.
        split_unit: What `patient_id` names, in the plural, if that is something else.
        channel_names: Names of the channels in the data set, in order; () where it has none.
        in_one_file: Whether `images` is one file whose fourth axis are the channels that
            `channel_names` names.
        value_names: Name of each value of the labels' file in the data set; {} without.
    """

    case_id: str
    patient_id: str
    images: tuple[Path, ...]
    truth: Path
    truth_values: Mapping[int, int] | None = None
    spacing_mm: tuple[float, ...] | None = None
    trust_spacing: bool = True
    outlined: bool = False
    spheres: tuple[Sphere, ...] | None = None
    reference: Mapping[str, float] = field(default_factory=dict)
    person_id: str | None = None
    unit: str = "patients"
    split_unit: str | None = None
    channel_names: tuple[str, ...] = ()
    in_one_file: bool = False
    value_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def person(self) -> str:
        """The independent unit of statistics, such as a patient."""
        return self.person_id or self.patient_id

    @property
    def image(self) -> Path:
        """The first file of the image, for error messages."""
        return self.images[0]


def relabel_cases(
    cases: Iterable[Case], table: Mapping[str, int], *, labels: Iterable[int]
) -> list[Case]:
    """Return cases whose mask values stand for other labels, such as 255 for 1.

    A label that no value stands for may be in the masks as itself. One that a value stands
    for may not, or two structures could become one unnoticed.

    Args:
        cases: The cases; those with a table of values of their own keep it, and `table` is
            applied to its labels.
        table: Label for each value; an empty one changes nothing.
        labels: All labels but the background.

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
    """Return the values in a case's labels file, before they are mapped to labels.

    Returns:
        (frames, height, width), in the stored type.

    Raises:
        DataError: If the file is a colour picture.
        FormatError: If it cannot be read.
    """
    truth = open_source(case.truth, as_labels=True)
    return np.stack([_one_channel(case, frame) for frame in truth.sequence])


def read_truth(case: Case, label_values: tuple[int, ...]) -> np.ndarray:
    """Return the expert labels of a case.

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
    """Return the opened image of a case and its expert labels.

    Returns:
        The image with the spacing that can be trusted, and labels as (frames,
        height, width) uint8 on its grid.

    Raises:
        DataError: As `read_truth`, or if the files of the image differ in grid.
        FormatError: As `read_truth`.
    """
    image = open_image(case)
    if case.spheres is None:
        labels = _read_labels(case, image, label_values)
    else:
        labels = _draw(case, image, case.spheres)
    return replace(image, sequence=_with_spacing(case, image.sequence)), labels


def open_image(case: Case) -> Source:
    """Open the files of a case's image and join them, channel after channel.

    Raises:
        DataError: If the files differ in grid, or one file has another number of channels than
            the data set says.
        FormatError: If one cannot be read.
    """
    if case.in_one_file:
        return _open_channels(case)
    try:
        return join_channels([open_source(path) for path in case.images])
    except GeometryError as error:
        raise DataError(f"case {case.case_id}: {error}") from error


def _open_channels(case: Case) -> Source:
    """Open a file whose fourth axis are channels."""
    count = len(case.channel_names)
    if _has_channel(case, count + 1):
        raise DataError(
            f"case {case.case_id}: {case.image} has more than the {count} channels that its data "
            f"set names, {', '.join(case.channel_names)}."
        )
    sources = [open_source(case.image, select={"channel": n}) for n in range(1, count + 1)]
    joined = join_channels(sources)
    return replace(joined, files=(case.image,))


def _has_channel(case: Case, number: int) -> bool:
    """Whether a file has as many channels."""
    try:
        open_source(case.image, select={"channel": number})
    except FormatError:
        return False
    return True


def _read_labels(case: Case, image: Source, label_values: tuple[int, ...]) -> np.ndarray:
    """Read the labels' file of a case."""
    truth = open_source(case.truth, as_labels=True)
    try:
        check_same_grid(image, truth, what="labels")
    except GeometryError as error:
        turned = " By EXIF the image is to be turned, and it is taken as stored: save it turned."
        hint = turned if is_turned(image.sequence) else ""
        raise DataError(f"case {case.case_id}: {error}{hint}") from error
    frames = np.stack([_one_channel(case, frame) for frame in truth.sequence])
    return _to_labels(case, frames, label_values)


def _draw(case: Case, image: Source, spheres: Sequence[Sphere]) -> np.ndarray:
    """Draw the findings of a case as label 1."""
    geometry = image.sequence.geometry
    if geometry is None:
        raise DataError(
            f"case {case.case_id}: {image.path} does not say where it lies in the patient, so "
            "that findings in mm cannot be drawn on it."
        )
    if image.sequence.uneven is not None:
        raise DataError(
            f"case {case.case_id}: the slices of {image.path} are not evenly spaced; findings in "
            "mm are drawn on even ones only. Resample the scan."
        )
    try:
        return draw_spheres(spheres, geometry).astype(np.uint8)
    except DataError as error:
        raise DataError(f"case {case.case_id}: {error}") from error


def _to_labels(case: Case, values: np.ndarray, label_values: tuple[int, ...]) -> np.ndarray:
    """Map the values of the labels' file to labels, uint8."""
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
    """Refuse values that are not in the table."""
    strange = [value for value in np.unique(values).tolist() if value not in allowed]
    if strange:
        seen = ", ".join(f"{value:.9g}" for value in strange[:8])
        raise DataError(
            f"case {case.case_id}: {case.truth} holds the label {seen}; expected only "
            f"{', '.join(map(str, allowed))}. Relabel it, or use a bundle with these labels."
        )


def _fill(labels: np.ndarray) -> np.ndarray:
    """Fill each label's closed outlines in every frame."""
    filled = labels.copy()
    for frame in filled:
        for value in np.unique(frame[frame > 0]).tolist():
            mask = (frame == value).astype(np.uint8)
            outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            cv2.drawContours(frame, outlines, -1, value, cv2.FILLED)
    return filled


def _with_spacing(case: Case, sequence: ImageSequence) -> ImageSequence:
    """Return the sequence with the spacing that the case trusts."""
    if case.spacing_mm is not None:
        return rescale(sequence, case.spacing_mm)
    if not case.trust_spacing:
        axis = "space" if sequence.has_slices else sequence.third_axis
        return replace(sequence, spacing_mm=None, slice_spacing_mm=None, third_axis=axis)
    return sequence


def _one_channel(case: Case, frame: np.ndarray) -> np.ndarray:
    """Return the labels of a grey frame, or of one saved in equal colours."""
    if (frame != frame[:1]).any():
        raise DataError(
            f"case {case.case_id}: {case.truth} is a colour picture; expected label values "
            "in one channel."
        )
    return np.asarray(frame[0])

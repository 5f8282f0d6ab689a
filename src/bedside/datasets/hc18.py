"""The HC18 layouts: fetal heads in ultrasound, each with a scale and a circumference.

Source: van den Heuvel et al., PLoS ONE 13(8), 2018, doi:10.1371/journal.pone.0200412.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file, list_stems
from bedside.errors import DataError

SHAPE = (
    "images/NNN_HC.png, masks/NNN_HC.png and pixel_size_and_hc.csv; or training_set/NNN_HC.png, "
    "training_set/NNN_HC_Annotation.png and training_set_pixel_size_and_HC.csv"
)

CIRCUMFERENCE = "head_circumference_mm"
"""Name of what the experts measured."""

_PNG = (".png",)
_HEAD = 1


@dataclass(frozen=True)
class _Variant:
    """One of the two published forms of the data set.

    Attributes:
        table: File with a row per image: name, mm per pixel, circumference in mm.
        images: Folder of the images.
        masks: Folder of the labels.
        suffix: What the labels' stems have that the images' have not.
        outlined: Whether labels are outlines, to be filled.
    """

    table: str
    images: str
    masks: str
    suffix: str
    outlined: bool


_VARIANTS = (
    _Variant("pixel_size_and_hc.csv", "images", "masks", suffix="", outlined=False),
    _Variant(
        "training_set_pixel_size_and_HC.csv",
        "training_set",
        "training_set",
        suffix="_Annotation",
        outlined=True,
    ),
)


def recognise(path: Path) -> bool:
    """Whether the table of scales is there, under one of its names."""
    return any((path / variant.table).is_file() for variant in _VARIANTS)


def list_cases(path: Path) -> list[Case]:
    """List the images with the scale of their pixels and the measured circumference.

    The patient is the exam, the number in front of the first underscore.

    Args:
        path: Folder that holds the table of scales.

    Returns:
        Cases named as the image file, in order.

    Raises:
        DataError: If the table or a folder is missing, or an image lacks its labels or its
            row in the table, or a row cannot be read.
    """
    variant = next((each for each in _VARIANTS if (path / each.table).is_file()), None)
    if variant is None:
        raise DataError(f"{path / _VARIANTS[0].table} is missing; the layout is {SHAPE}.")
    table = _read_table(path / variant.table)
    return [_case(stem, path, variant, table) for stem in _stems(path, variant)]


def _stems(path: Path, variant: _Variant) -> list[str]:
    """List the stems that have an image or labels, in order."""
    found = set()
    for folder in (path / variant.images, path / variant.masks):
        if not folder.is_dir():
            raise DataError(f"{folder} is missing; the layout is {SHAPE}.")
        found |= set(list_stems(folder, _PNG))
    return sorted({stem.removesuffix(variant.suffix) for stem in found})


def _case(stem: str, path: Path, variant: _Variant, table: dict[str, tuple[float, float]]) -> Case:
    """Put the parts of a case together."""
    if stem not in table:
        raise DataError(
            f"case {stem} has no scale: {path / variant.table} has no row for {stem}.png. "
            f"Add it, or leave {stem} out."
        )
    mm_per_pixel, circumference_mm = table[stem]
    labels = path / variant.masks / f"{stem}{variant.suffix}"
    return Case(
        case_id=stem,
        patient_id=stem.partition("_")[0],
        unit="exams",
        images=(find_file(path / variant.images / stem, "image", case=stem, endings=_PNG),),
        truth=find_file(labels, "labels", case=stem, endings=_PNG),
        truth_values={0: 0, 255: _HEAD} if variant.outlined else None,
        spacing_mm=(mm_per_pixel, mm_per_pixel),
        outlined=variant.outlined,
        reference={CIRCUMFERENCE: circumference_mm},
    )


def _read_table(path: Path) -> dict[str, tuple[float, float]]:
    """Return mm per pixel and circumference in mm by stem."""
    table = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if number == 1 or not row:
                continue
            try:
                name, mm_per_pixel, circumference_mm = row[0], float(row[1]), float(row[2])
            except (IndexError, ValueError):
                mm_per_pixel = circumference_mm = 0.0
            if not (0 < mm_per_pixel < 10 and 0 < circumference_mm < 1000):
                raise DataError(
                    f"{path}, line {number}, is {','.join(row)}; expected a file name, mm a "
                    "pixel, and a circumference in mm."
                )
            table[name.removesuffix(".png")] = (mm_per_pixel, circumference_mm)
    return table

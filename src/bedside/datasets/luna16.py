"""The LUNA16 layout: CT scans in subsets, and a table of nodules with diameters.

Source: Setio et al., Medical Image Analysis 42, 2017, doi:10.1016/j.media.2017.06.015.
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import list_folders
from bedside.datasets.spheres import Sphere
from bedside.errors import DataError

SHAPE = (
    "subsetN/SERIESUID.mhd with .raw, and annotations.csv (nodules as spheres), or contours in "
    "masks/SERIESUID.nii.gz or .mhd"
)

TABLE = "annotations.csv"
COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")

_CONTOURS = (".nii.gz", ".nii", ".mhd")


def recognise(path: Path) -> bool:
    """Whether the table and a subset of scans are there."""
    return (path / TABLE).is_file() and any(_scans(path))


def list_cases(path: Path) -> list[Case]:
    """List every scan that is here; label 1 is nodule.

    The truth are the radiologists' contours in `masks`, or else the table's nodules as spheres.
    A scan that is not in the table has no nodule. A patient has one scan.

    Args:
        path: Folder that holds the table and the subsets.

    Returns:
        Cases named by series UID, in order.

    Raises:
        DataError: If the table cannot be read, or a scan is in two subsets.
    """
    nodules = _read_table(path / TABLE)
    cases: dict[str, Case] = {}
    for scan in _scans(path):
        series = scan.name.removesuffix(".mhd")
        if series in cases:
            raise DataError(f"case {series} is there twice: {cases[series].image} and {scan}.")
        contours = _find_contours(path / "masks", series)
        cases[series] = Case(
            case_id=series,
            patient_id=series,
            images=(scan,),
            truth=contours or path / TABLE,
            spheres=None if contours else nodules.get(series, ()),
        )
    return [cases[series] for series in sorted(cases)]


def _scans(path: Path) -> list[Path]:
    """List the headers of the scans in all subsets; other folders hold lung masks."""
    subsets = [folder for folder in list_folders(path) if folder.name.startswith("subset")]
    return [file for subset in subsets for file in sorted(subset.glob("*.mhd"))]


def _find_contours(folder: Path, series: str) -> Path | None:
    """Find the contours of a scan, if there are any."""
    files = (folder / f"{series}{ending}" for ending in _CONTOURS)
    return next((file for file in files if file.is_file()), None)


def _read_table(path: Path) -> Mapping[str, tuple[Sphere, ...]]:
    """Read the nodules of every scan."""
    if not path.is_file():
        raise DataError(f"{path} is missing; the layout is {SHAPE}.")
    nodules: dict[str, tuple[Sphere, ...]] = {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if set(COLUMNS) - set(rows.fieldnames or ()):
            raise DataError(f"{path} has columns {rows.fieldnames}; expected {', '.join(COLUMNS)}.")
        for row in rows:
            series = row["seriesuid"]
            nodules[series] = (*nodules.get(series, ()), _sphere(row, path, rows.line_num))
    return nodules


def _sphere(row: Mapping[str, str], path: Path, line: int) -> Sphere:
    """Read a nodule."""
    try:
        x, y, z, diameter = (float(row[name]) for name in COLUMNS[1:])
    except (TypeError, ValueError):
        x = y = z = diameter = math.nan
    if not all(map(math.isfinite, (x, y, z))) or not 0 < diameter < 1000:
        seen = ",".join(str(row[name]) for name in COLUMNS[1:])
        raise DataError(
            f"case {row['seriesuid']}: line {line} of {path} is {seen}; expected a place "
            "(x, y, z) and a diameter, in mm."
        )
    return Sphere((x, y, z), diameter)

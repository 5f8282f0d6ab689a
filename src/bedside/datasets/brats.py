"""The BraTS layout: a folder per patient, four co-registered MR channels and labels.

Source: Menze et al., IEEE TMI 34(10), 2015, doi:10.1109/TMI.2014.2377694; the newer names
are those of the challenge of 2023.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file, list_folders, list_stems

SHAPE = (
    "CASE/CASE_flair.nii.gz, _t1, _t1ce, _t2 and _seg; or, as from 2023 on, CASE/CASE-t2f.nii.gz, "
    "-t1n, -t1c, -t2w and -seg"
)

CHANNELS = ("flair", "t1", "t1ce", "t2")
"""What the channels of an image are, in order, whatever the files are called."""

NECROTIC, EDEMA, ENHANCING = 1, 2, 3
"""Labels: necrotic core, peritumoral edema, enhancing tumour."""


@dataclass(frozen=True)
class _Naming:
    """File names of one generation of the challenge.

    Attributes:
        channels: Suffixes, in the order of `CHANNELS`.
        truth: Suffix of the segmentation.
        values: Label for each value in it.
    """

    channels: tuple[str, str, str, str]
    truth: str
    values: Mapping[int, int]


# Up to 2021 enhancing tumour is 4, and 3 is not used.
_NAMINGS = (
    _Naming(("_flair", "_t1", "_t1ce", "_t2"), "_seg", {0: 0, 1: NECROTIC, 2: EDEMA, 4: ENHANCING}),
    _Naming(("-t2f", "-t1n", "-t1c", "-t2w"), "-seg", {0: 0, 1: NECROTIC, 2: EDEMA, 3: ENHANCING}),
)
# A patient's scans at several times, as from 2023 on: BraTS-GLI-00005-000, -001.
_TIMES = re.compile(r"(BraTS-[A-Z]+-\d+)-\d{3}")


def recognise(path: Path) -> bool:
    """Whether some folder holds a channel that is named after its folder."""
    return any(_naming(folder) is not None for folder in list_folders(path))


def list_cases(path: Path) -> list[Case]:
    """List every patient's scans.

    Args:
        path: Folder with one folder a case.

    Returns:
        Cases named as their folder, in order; four files each, in the order of `CHANNELS`.

    Raises:
        DataError: If a case lacks a channel or its segmentation.
    """
    cases = []
    for folder in list_folders(path):
        naming, name = _naming(folder), folder.name
        if naming is None:
            continue
        times = _TIMES.fullmatch(name)
        pairs = zip(naming.channels, CHANNELS, strict=True)
        cases.append(
            Case(
                case_id=name,
                patient_id=times[1] if times else name,
                images=tuple(
                    find_file(folder / f"{name}{suffix}", f"channel {channel}", case=name)
                    for suffix, channel in pairs
                ),
                truth=find_file(folder / f"{name}{naming.truth}", "labels", case=name),
                truth_values=naming.values,
            )
        )
    return cases


def _naming(folder: Path) -> _Naming | None:
    """Return the naming that a folder follows, by any of its channels."""
    stems = set(list_stems(folder))
    for naming in _NAMINGS:
        if any(f"{folder.name}{suffix}" in stems for suffix in naming.channels):
            return naming
    return None

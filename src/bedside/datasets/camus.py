"""The CAMUS layout: a folder per patient, end-diastole and end-systole of each view.

Source: Leclerc et al., IEEE TMI 38(9), 2019, doi:10.1109/TMI.2019.2900516.
"""

import os
import re
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file

SHAPE = "patientNNNN/patientNNNN_4CH_{ED,ES}.nii.gz with labels in ..._gt.nii.gz"

_PATIENT = re.compile(r"patient\d+")
_IMAGE = re.compile(r"patient\d+_[234]CH_(ED|ES)(_gt)?\.nii(\.gz)?")


def recognise(path: Path) -> bool:
    """Whether some patient's folder holds a view named as in CAMUS."""
    return any(_IMAGE.fullmatch(file) for folder in _patients(path) for file in os.listdir(folder))


def list_cases(path: Path, *, view: str = "4CH") -> list[Case]:
    """List end-diastole and end-systole of one view of every patient.

    Args:
        path: Folder with one folder a patient.
        view: "4CH" or "2CH", the number of chambers seen.

    Returns:
        Two cases a patient, named as the image file.

    Raises:
        DataError: If a patient lacks an image of this view, or its labels.
    """
    return [
        Case(
            case_id=name,
            patient_id=folder.name,
            images=(find_file(folder / name, "image", case=name),),
            truth=find_file(folder / f"{name}_gt", "labels", case=name),
        )
        for folder in _patients(path)
        for name in (f"{folder.name}_{view}_{moment}" for moment in ("ED", "ES"))
    ]


def _patients(path: Path) -> list[Path]:
    """List the patients' folders in order."""
    return sorted(entry for entry in path.iterdir() if _PATIENT.fullmatch(entry.name))

"""The ACDC layout: a folder per patient, short-axis volumes at end-diastole and end-systole.

Source: Bernard et al., IEEE TMI 37(11), 2018, doi:10.1109/TMI.2018.2837502.
"""

import re
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file, list_folders, list_stems

SHAPE = "patientNNN/patientNNN_frameNN.nii.gz with labels in ..._gt.nii.gz"

_PATIENT = re.compile(r"patient\d+")
_FRAME = re.compile(r"(patient\d+_frame\d+)(_gt)?")


def recognise(path: Path) -> bool:
    """Whether some patient's folder holds a frame named as in ACDC."""
    return any(_frames(folder) for folder in _patients(path))


def list_cases(path: Path) -> list[Case]:
    """List the labelled frames of every patient; the film (`_4d`) and `Info.cfg` are left out.

    No spacing is trusted: in copies of the data set that lost it the header says 1 mm along
    every axis, which no short-axis protocol has, and names do not tell one copy from another.

    Args:
        path: Folder with one folder a patient.

    Returns:
        Cases named as the image file, in order of patient and frame.

    Raises:
        DataError: If a frame lacks its image or its labels.
    """
    return [
        Case(
            case_id=frame,
            patient_id=folder.name,
            images=(find_file(folder / frame, "image", case=frame),),
            truth=find_file(folder / f"{frame}_gt", "labels", case=frame),
            trust_spacing=False,
        )
        for folder in _patients(path)
        for frame in _frames(folder)
    ]


def _patients(path: Path) -> list[Path]:
    """List the patients' folders in order."""
    return [folder for folder in list_folders(path) if _PATIENT.fullmatch(folder.name)]


def _frames(folder: Path) -> list[str]:
    """List the frames that have an image or labels."""
    matches = (_FRAME.fullmatch(stem) for stem in list_stems(folder))
    return sorted({match[1] for match in matches if match})

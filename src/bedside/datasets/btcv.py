"""The BTCV ("Synapse") layout: abdominal CT with thirteen organs, numbered files.

Source: Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, 2015,
doi:10.7303/syn3193805.
"""

import re
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file, list_stems

SHAPE = "img/imgNNNN.nii.gz and label/labelNNNN.nii.gz; or the same in imagesTr and labelsTr"

ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach",
    "aorta", "inferior vena cava", "portal and splenic veins", "pancreas", "right adrenal gland",
    "left adrenal gland",
)  # fmt: skip
"""What labels 1 to 13 are."""

_FOLDERS = (("img", "label"), ("imagesTr", "labelsTr"))
_IMAGE, _TRUTH = re.compile(r"img(\d{4})"), re.compile(r"label(\d{4})")
_VALUES = {value: value for value in range(len(ORGANS) + 1)}


def recognise(path: Path) -> bool:
    """Whether one of the pairs of folders holds a numbered image."""
    return any(_numbers(path / images, _IMAGE) for images, _ in _FOLDERS)


def list_cases(path: Path) -> list[Case]:
    """List every scan that has an image or labels.

    Args:
        path: Folder that holds the two folders.

    Returns:
        Cases named `imgNNNN`, in order; a patient has one.

    Raises:
        DataError: If an image lacks its labels or labels their image.
    """
    cases = []
    for images, labels in _FOLDERS:
        found = _numbers(path / images, _IMAGE) | _numbers(path / labels, _TRUTH)
        for number in sorted(found):
            name = f"img{number}"
            cases.append(
                Case(
                    case_id=name,
                    patient_id=name,
                    images=(find_file(path / images / name, "image", case=name),),
                    truth=find_file(path / labels / f"label{number}", "labels", case=name),
                    truth_values=_VALUES,
                )
            )
    return cases


def _numbers(folder: Path, name: re.Pattern[str]) -> set[str]:
    """Collect the numbers of a folder's files of one kind."""
    if not folder.is_dir():
        return set()
    matches = (name.fullmatch(stem) for stem in list_stems(folder))
    return {match[1] for match in matches if match}

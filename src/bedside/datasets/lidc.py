"""Crops around lung nodules, with the number of radiologists who marked each voxel.

Source: Armato et al., Medical Physics 38(2), 2011, doi:10.1118/1.3528204 (LIDC-IDRI).
"""

from collections.abc import Mapping
from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file, list_folders, list_stems

SHAPE = "PATIENT/PATIENT_nodule-N.nii.gz with counts of raters in ..._raters.nii.gz"

RATERS = 4
"""Radiologists who read each scan."""
CONSENSUS = 2
"""Radiologists who must have marked a voxel for it to count as nodule: half of them."""

_RATERS = "_raters"
_LABELS: Mapping[int, int] = {count: int(count >= CONSENSUS) for count in range(RATERS + 1)}


def recognise(path: Path) -> bool:
    """Whether some patient's folder holds counts of raters."""
    return any(
        stem.endswith(_RATERS) for folder in list_folders(path) for stem in list_stems(folder)
    )


def list_cases(path: Path) -> list[Case]:
    """List every nodule; label 1 is where at least half of the radiologists saw it.

    The header's spacing is a placeholder: these cases give no lengths in mm.

    Args:
        path: Folder with one folder a patient.

    Returns:
        Cases named as the image file, in order of patient and nodule.

    Raises:
        DataError: If a nodule lacks its image or its counts.
    """
    return [
        Case(
            case_id=nodule,
            patient_id=folder.name,
            images=(find_file(folder / nodule, "image", case=nodule),),
            truth=find_file(folder / f"{nodule}{_RATERS}", "labels", case=nodule),
            truth_values=_LABELS,
            trust_spacing=False,
        )
        for folder in list_folders(path)
        for nodule in sorted({stem.removesuffix(_RATERS) for stem in list_stems(folder)})
    ]

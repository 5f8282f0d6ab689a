"""Video frames with masks: `img/` and `annot/`, in each a folder per patient and sequence.

Source: the layout of Laves et al., IJCARS 14, 2019, doi:10.1007/s11548-018-01910-0.
"""

from pathlib import Path

from bedside.datasets.case import Case
from bedside.datasets.pairing import find_file, list_folders, list_stems
from bedside.errors import DataError

SHAPE = "img/PATIENT/SEQUENCE/FRAME.jpg (or .png) and annot/PATIENT/SEQUENCE/FRAME.png"

# Labels are never read from JPEG: its compression invents values.
_IMAGE = (".jpg", ".jpeg", ".png")
_TRUTH = (".png",)


def recognise(path: Path) -> bool:
    """Whether there is a folder of frames and one of annotations."""
    return (path / "img").is_dir() and (path / "annot").is_dir()


def list_cases(path: Path) -> list[Case]:
    """List every frame that has an image or a mask; each is a case of its own.

    Neighbouring frames look alike, so a split keeps patients whole. In a data set of a single
    patient the sequences, `PATIENT/SEQUENCE`, stand for patients, and scores hold for another
    sequence of a patient seen in training.

    Args:
        path: Folder that holds `img` and `annot`.

    Returns:
        Cases named `PATIENT_SEQUENCE_FRAME`, in order.

    Raises:
        DataError: If a folder is missing, or a frame lacks its image or its mask.
    """
    images, masks = path / "img", path / "annot"
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder} is missing; the layout is {SHAPE}.")
    patients = _names(images, masks)
    return [
        _case(
            images / patient / sequence / frame,
            masks / patient / sequence / frame,
            patient_id=patient if len(patients) > 1 else f"{patient}/{sequence}",
            unit="patients" if len(patients) > 1 else "sequences",
        )
        for patient in patients
        for sequence in _names(images / patient, masks / patient)
        for frame in _frames(images / patient / sequence, masks / patient / sequence)
    ]


def _case(image: Path, mask: Path, *, patient_id: str, unit: str) -> Case:
    """Pair a frame's image and mask, given without ending."""
    name = "_".join(image.parts[-3:])
    return Case(
        case_id=name,
        patient_id=patient_id,
        unit=unit,
        images=(find_file(image, "image", case=name, endings=_IMAGE),),
        truth=find_file(mask, "labels", case=name, endings=_TRUTH),
    )


def _names(*folders: Path) -> list[str]:
    """List the folders that are in any of several folders, by name."""
    present = [folder for folder in folders if folder.is_dir()]
    return sorted({entry.name for folder in present for entry in list_folders(folder)})


def _frames(images: Path, masks: Path) -> list[str]:
    """List the frames that have an image or a mask."""
    stems = set(list_stems(images, _IMAGE)) if images.is_dir() else set()
    return sorted(stems | (set(list_stems(masks, _TRUTH)) if masks.is_dir() else set()))

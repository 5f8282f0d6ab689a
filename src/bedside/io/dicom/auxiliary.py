"""Images of a study that are not scans: localizers, screen captures, reports, renderings."""

from pathlib import Path
from typing import Any

from bedside.errors import FormatError

AUXILIARY_TAGS = (
    "SOPClassUID", "Modality", "ImageType", "StudyInstanceUID", "SamplesPerPixel",
    "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
)  # fmt: skip
"""Attributes that are looked at."""

# Modalities of slices with a place and quantitative values.
_OF_SLICES = ("CT", "MR", "PT", "NM")
# Modalities whose images all have a place; planar nuclear images have none.
_PLACED = ("CT", "MR", "PT")
_IN_TIME = ("US", "IVUS", "XA", "RF")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Words in ImageType, as scanners and workstations write them.
_LOCALIZER_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM", "SCANOSCOPE"}
_REPORT_WORDS = {"DOSE", "DOSEREPORT", "PROTOCOL", "PROT", "REPORT"}
_SCREEN_WORDS = {"SCREEN", "SCREENSHOT", "SCREENSAVE", "CAPTURE"}
_RENDERED_WORDS = {"MIP", "MINIP", "VOLREN", "VRT", "RENDERED", "RENDERING", "3D"}


def why_localizer(header: Any) -> str | None:
    """Return why an image is a localizer, by ImageType; None if it is not.

    Args:
        header: Of one image, with `AUXILIARY_TAGS`.
    """
    values = _list_types(header)
    found = [value for value in values if _LOCALIZER_WORDS & _split(value)]
    if not found or str(header.get("Modality") or "") in _IN_TIME:
        return None
    return f"is a localizer (ImageType {found[0]}): it shows where a scan lies"


def why_capture(header: Any) -> str | None:
    """Return why an image of a CT, MR or nuclear study is a screen capture or report; else None.

    It is one by its class (secondary capture without a place in the patient) or its ImageType.

    Args:
        header: Of one image, with `AUXILIARY_TAGS`.

    Source:
        DICOM PS3.3 A.8, Secondary Capture; C.7.6.1.1.2, Image Type.
    """
    modality = str(header.get("Modality") or "")
    if modality not in _OF_SLICES:
        return None
    found = {word for value in _list_types(header) for word in _split(value)}
    captured = is_secondary_capture(header) and not is_placed(header)
    if _REPORT_WORDS & found and (captured or "SECONDARY" in found):
        return f"is a dose report or protocol of the {modality} study, no image of the patient"
    if captured or (_SCREEN_WORDS & found):
        return f"is a screen capture of the {modality} study, without its values"
    return None


def why_beside_scan(header: Any) -> str | None:
    """Return why an image is skipped if its study has a scan; else None.

    Args:
        header: Of one image, with `AUXILIARY_TAGS`.
    """
    modality = str(header.get("Modality") or "")
    if modality in ("OT", "SC") and is_secondary_capture(header) and not is_placed(header):
        return "is a screen capture (secondary capture) beside the scan of its study"
    if modality not in _PLACED:
        return None
    if header.get("SamplesPerPixel") == 3:
        return f"is in colour (a fusion, a map or a rendering), beside the {modality} scan"
    if is_placed(header):
        return None
    found = {word for value in _list_types(header) for word in _split(value)}
    what = "a rendering" if _RENDERED_WORDS & found else "a rendering, a report or a capture"
    return f"has no place in the patient: {what}, beside the {modality} scan"


def check_captured(dataset: Any, path: Path) -> list[str]:
    """Refuse a screen capture that is named as an image; warn of a localizer.

    Args:
        dataset: Its header.
        path: Its file, for the error.

    Returns:
        Warnings.

    Raises:
        FormatError: If it is a screen capture or report of a CT, MR or nuclear study.
    """
    why = why_capture(dataset)
    if why is not None:
        raise FormatError(
            f"{path} {why}. Name the scan, or save this as PNG to take it as a picture."
        )
    localizer = why_localizer(dataset)
    return [] if localizer is None else [f"the image {localizer}, and is no slice of one"]


def is_secondary_capture(header: Any) -> bool:
    """Whether an image is of a secondary capture class."""
    uid = str(header.get("SOPClassUID") or "")
    return uid == _SECONDARY_CAPTURE or uid.startswith(f"{_SECONDARY_CAPTURE}.")


def is_placed(header: Any) -> bool:
    """Whether an image, or each of its frames, has a place in the patient."""
    if header.get("SharedFunctionalGroupsSequence"):
        return True
    return bool(header.get("ImagePositionPatient") and header.get("ImageOrientationPatient"))


def _list_types(header: Any) -> list[str]:
    value = header.get("ImageType") or ()
    values = [value] if isinstance(value, str) else list(value)
    return [str(each).upper().strip() for each in values]


def _split(value: str) -> set[str]:
    """Return the words of one value: REF_SURVIEW, "SCREEN SAVE", CT_SOM5 PROT."""
    return {*value.replace("_", " ").replace("-", " ").split()}

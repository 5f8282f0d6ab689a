"""What must be known of a DICOM file to send it and to ask for it; its content is not decoded."""

from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from bedside.errors import FormatError
from bedside.io.dicom.warnings import collected_warnings


@dataclass(frozen=True)
class Instance:
    """A DICOM file, named by its UIDs.

    Attributes:
        path: The file.
        sop_class_uid: Of its object.
        sop_instance_uid: Of its object.
        transfer_syntax_uid: How it is encoded.
        study_instance_uid: The study it belongs to.
        series_instance_uid: The series it belongs to.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str


_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read_instance(path: Path) -> Instance:
    """Return the UIDs of a DICOM file.

    Args:
        path: The file.

    Raises:
        FormatError: If it cannot be read, is no DICOM file, or lacks one of the UIDs.
    """
    try:
        with collected_warnings():  # which may quote patient data
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*_NEEDED])
            syntax = str(header.file_meta.TransferSyntaxUID)
            values = {name: str(getattr(header, name)) for name in _NEEDED}
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise FormatError(f"{path.name} cannot be sent: {error}") from error
    return Instance(
        path=path,
        sop_class_uid=values["SOPClassUID"],
        sop_instance_uid=values["SOPInstanceUID"],
        transfer_syntax_uid=syntax,
        study_instance_uid=values["StudyInstanceUID"],
        series_instance_uid=values["SeriesInstanceUID"],
    )

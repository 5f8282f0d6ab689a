"""DICOM headers passed between processes: files of elements without pixels."""

import io
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from bedside.errors import FormatError
from bedside.io.dicom.header import DicomInstances
from bedside.io.dicom.warnings import collected_warnings

_MAX_BYTES = 2**26


def write_headers(header: DicomInstances, folder: Path) -> dict[str, Any]:
    """Write headers to a folder, a file each.

    Elements that break DICOM's rules and cannot be written are left out.

    Args:
        header: The headers.
        folder: The folder.

    Returns:
        Everything else, as JSON.

    Raises:
        FormatError: If they are too large for headers.
    """
    total = 0
    for index, dataset in enumerate(header.instances):
        content = _to_bytes(dataset)
        total += len(content)
        if total > _MAX_BYTES:
            raise FormatError(f"its headers take more than {_MAX_BYTES >> 20} MiB.")
        _name(folder, index).write_bytes(content)
    syntaxes = [str(each.file_meta.TransferSyntaxUID) for each in header.instances]
    return {"frames": header.frames, "syntaxes": syntaxes, "in_patient": header.in_patient}


def read_headers(header: Any, folder: Path) -> DicomInstances:
    """Return the headers that `write_headers` wrote.

    Raises:
        FormatError: If files are too large for headers.
        Exception: Of any kind, if they are malformed.
    """
    instances = []
    files = [_name(folder, index) for index in range(len(header["syntaxes"]))]
    if sum(file.stat().st_size for file in files) > _MAX_BYTES:
        raise FormatError(f"the headers take more than {_MAX_BYTES >> 20} MiB.")
    with collected_warnings():
        for file, syntax in zip(files, header["syntaxes"], strict=True):
            dataset = pydicom.dcmread(io.BytesIO(file.read_bytes()))
            dataset.file_meta.TransferSyntaxUID = UID(str(syntax))
            instances.append(dataset)
    frames = tuple((int(instance), int(number)) for instance, number in header["frames"])
    # An interpolated frame has the instance -1.
    if not instances or any(not -1 <= instance < len(instances) for instance, _ in frames):
        raise FormatError("a frame is of an instance that is not there.")
    return DicomInstances(tuple(instances), frames, bool(header["in_patient"]))


def _name(folder: Path, index: int) -> Path:
    return folder / f"header_{index:05d}.dcm"


def _to_bytes(dataset: Dataset) -> bytes:
    """Return the bytes of a header, always without compression."""
    with collected_warnings():
        # Shallow: elements deleted below also go from `dataset`, which is not used after this.
        whole = copy(dataset)
        whole.file_meta = deepcopy(dataset.file_meta)
        # pydicom does not change the byte order.
        if whole.file_meta.TransferSyntaxUID != ExplicitVRBigEndian:
            whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        try:
            return _save(whole)
        except Exception:  # noqa: BLE001 - pydicom raises nine kinds of error for one bad value
            for tag in list(whole.keys()):
                if not _can_be_written(whole, tag):
                    del whole[tag]
            return _save(whole)


def _can_be_written(dataset: Dataset, tag: Any) -> bool:
    """Whether a single element can be written."""
    single = Dataset()
    try:
        single.add(dataset[tag])
        single.save_as(io.BytesIO(), implicit_vr=False, little_endian=True)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _save(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()

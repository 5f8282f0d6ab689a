"""DICOM files read with limits on size and nesting, and one type of error."""

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom import Dataset, FileMetaDataset
from pydicom.datadict import dictionary_VR
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from bedside.errors import FormatError, InputError
from bedside.io.dicom.bare import find_dataset, find_syntax, has_prefix, is_bare_dicom
from bedside.io.dicom.warnings import collected_warnings
from bedside.io.given import DatasetPath

MAX_BYTES = 2**31
"""Largest file, and largest decoded image, that is read: 2 GiB."""

MAX_INFLATED = 2**27
"""Largest deflated file that is read, inflated: 128 MiB; pydicom holds it twice."""

MAX_DEPTH = 64
"""Deepest nesting of sequences that is read."""

_PIXEL_TAG = 0x7FE00010
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_ITEM, _END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF
_META_BYTES = 4096
_HEAD_BYTES = 1024


@contextlib.contextmanager
def pydicom_errors(path: Path) -> Iterator[list[str]]:
    """Turn any error of pydicom within the block into a FormatError.

    Args:
        path: The file, for the error.

    Yields:
        A list that collects pydicom's warnings.

    Raises:
        FormatError: If any error but this program's own is raised.
    """
    with collected_warnings() as caught:
        try:
            yield caught
        except InputError:
            raise
        except RecursionError as error:
            raise _too_deep(path) from error
        except Exception as error:
            # pydicom converts values on access, and raises many types of error.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FormatError(
                f"{path} cannot be read as DICOM: {reason.rstrip('.')}. "
                "It is truncated or damaged; export it again."
            ) from error


def read_whole(path: Path, max_bytes: int, caught: Sequence[str]) -> Any:
    """Return a data set with its pixel data.

    Args:
        path: The file.
        max_bytes: A file that is larger, or inflates to more, is refused.
        caught: The list of the `pydicom_errors` around this call.

    Raises:
        FormatError: If it is too large, ends in the middle, or nests too deep.
    """
    if isinstance(path, DatasetPath):
        dataset = _copy_dataset(path)
    else:
        check_size(path, max_bytes)
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, force=_is_bare(path))
    if any("End of file" in text for text in caught):
        raise truncated(path)
    _check_depth(dataset, path)
    _assume_syntax(dataset, path)
    return dataset


def read_header(
    path: Path, max_bytes: int, *, tags: Sequence[str] | None = None, check_end: bool = False
) -> Any:
    """Return a data set up to its pixel data.

    Args:
        path: The file.
        max_bytes: A file that is larger, or inflates to more, is refused.
        tags: Keywords to read; None for all. A few are read much faster.
        check_end: Whether to check that the pixel data is complete, without reading it.

    Raises:
        FormatError: If it is too large, nests too deep, or its pixel data goes on past the
            end of the file.
    """
    if isinstance(path, DatasetPath):
        dataset = _copy_dataset(path)
        if dataset.pop("PixelData", None) is None and check_end:
            raise FormatError(f"{path} lacks PixelData, so there is no image in it.")
        return dataset
    check_size(path, max_bytes)
    wanted: Any = None if tags is None else list(tags)
    with path.open("rb") as file:
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=wanted, force=_is_bare(path)
        )
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        # A deflated file has been read to its end already.
        if check_end and syntax != DeflatedExplicitVRLittleEndian:
            _check_pixels_end(file, dataset, path)
    if tags is None:
        _check_depth(dataset, path)
    _assume_syntax(dataset, path)
    return dataset


def describe_form(dataset: Any) -> list[str]:
    """Return warnings about a missing preamble or transfer syntax."""
    if not hasattr(dataset, "preamble"):
        # A given Dataset was not read here.
        return []
    notes = []
    if dataset.preamble is None:
        notes.append(
            "the file has no DICOM preamble (128 bytes, DICM) and was recognised by its elements"
        )
    if getattr(dataset, "assumed_syntax", False):
        name = dataset.file_meta.TransferSyntaxUID.name
        notes.append(f"the file does not state its transfer syntax; by its bytes it is {name}")
    return notes


def check_size(path: Path, max_bytes: int) -> None:
    """Refuse a file that is too large, or inflates to too much.

    Raises:
        FormatError: If it is too large.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise FormatError(
            f"{path} has {size / 2**30:.1f} GiB; at most {max_bytes / 2**30:g} GiB are read. "
            "Split the recording."
        )
    with path.open("rb") as file:
        head = file.read(_META_BYTES)
    syntax = find_syntax(head)
    if syntax is None and has_prefix(head):
        with path.open("rb") as file:
            read_preamble(file, force=False)
            syntax = str(_read_file_meta_info(file).get("TransferSyntaxUID"))
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(path, min(max_bytes, MAX_INFLATED))


def read_decimals(dataset: Any, keyword: str) -> list[float]:
    """Return decimal strings as numbers, much faster than pydicom.

    Returns:
        The numbers; none if the attribute is missing or empty.

    Raises:
        ValueError: If one is not a number.
    """
    if keyword not in dataset:
        return []
    raw = dataset.get_item(keyword).value
    if isinstance(raw, bytes):
        text = raw.decode("ascii", "replace").strip(" \0")
        return [float(part) for part in text.split("\\")] if text else []
    if raw is None or raw == "":
        return []
    return [float(part) for part in (raw if hasattr(raw, "__iter__") else [raw])]


def truncated(path: Path) -> FormatError:
    """Return the error of a truncated file."""
    return FormatError(f"{path} ends in the middle of its data. It is truncated; export it again.")


def _check_pixels_end(file: BinaryIO, dataset: Any, path: Path) -> None:
    """Refuse a file, read up to its pixel data, that lacks all or part of it."""
    order: Literal["little", "big"] = "little" if dataset.original_encoding[1] else "big"
    if file.read(4) != (_PIXEL_DATA if order == "little" else b"\x7f\xe0\x00\x10"):
        raise FormatError(f"{path} lacks PixelData. It is truncated; export it again.")
    head = file.read(4 if dataset.original_encoding[0] else 8)
    length = int.from_bytes(head[-4:], order)
    size = path.stat().st_size
    whole = _items_end(file, size) if length == _UNDEFINED else file.tell() + length <= size
    if not whole:
        raise truncated(path)


def _items_end(file: BinaryIO, size: int) -> bool:
    """Whether encapsulated items end with their delimiter."""
    while len(head := file.read(8)) == 8:
        if head[:4] == _END_OF_ITEMS:
            return True
        end = file.tell() + int.from_bytes(head[4:], "little")
        if head[:4] != _ITEM or end > size:
            return False
        file.seek(end)
    return False


def _check_inflated_size(path: Path, max_bytes: int) -> None:
    """Refuse a deflated data set larger than `max_bytes`, before pydicom inflates it."""
    content = path.read_bytes()
    start = find_dataset(content)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, content[start:]
    # Bytes after the end of the stream, such as padding, are never consumed.
    while pending and not inflater.eof:
        total += len(inflater.decompress(pending, 2**20))
        if total > max_bytes:
            raise FormatError(
                f"{path} inflates to more than {max_bytes / 2**20:g} MiB and is refused. "
                "Export it uncompressed if it is sound."
            )
        pending = inflater.unconsumed_tail


def _copy_dataset(path: DatasetPath) -> Any:
    """Return a copy of a given Dataset, which stays unchanged."""
    given = path.dataset
    dataset = Dataset(dict(given.items()))
    dataset.set_original_encoding(*given.original_encoding)
    meta = getattr(given, "file_meta", None)
    dataset.file_meta = FileMetaDataset() if meta is None else FileMetaDataset(dict(meta.items()))
    _check_depth(dataset, path)
    _assume_syntax(dataset, path)
    return dataset


def _is_bare(path: Path) -> bool:
    """Whether a file without a preamble is DICOM."""
    with path.open("rb") as file:
        return is_bare_dicom(file.read(_HEAD_BYTES))


def _assume_syntax(dataset: Any, path: Path) -> None:
    """Set a missing transfer syntax by the encoding that was read.

    Source:
        DICOM PS3.5 10: implicit little endian unless another one is agreed.
    """
    if dataset.file_meta.get("TransferSyntaxUID"):
        return
    pixels = dataset.get(_PIXEL_TAG)
    if pixels is not None and (pixels.is_undefined_length or (pixels.value or b"")[:4] == _ITEM):
        raise FormatError(
            f"{path} does not state its transfer syntax, and its pixels are compressed, so it is "
            "not known how. Ask its sender for the file with its file meta information."
        )
    is_implicit, is_little = dataset.original_encoding
    # Neither is known of a Dataset that was never in a file: it has native byte order.
    explicit = ExplicitVRBigEndian if is_little is False else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    dataset.assumed_syntax = True


def _check_depth(dataset: Any, path: Path) -> None:
    """Refuse sequences that nest too deep, without recursion."""
    pending = [(dataset, 0)]
    while pending:
        level, depth = pending.pop()
        for tag in level.keys():  # noqa: SIM118
            if not _is_sequence(level, tag):
                continue
            if depth == MAX_DEPTH:
                raise _too_deep(path)
            pending += [(item, depth + 1) for item in level[tag].value or ()]


def _is_sequence(dataset: Any, tag: Any) -> bool:
    """Whether an element is a sequence, without converting its value."""
    found = dataset.get_item(tag).VR
    if found is None:
        with contextlib.suppress(KeyError):
            found = dictionary_VR(tag)
    return bool(found == "SQ")


def _too_deep(path: Path) -> FormatError:
    return FormatError(
        f"{path} nests its sequences more than {MAX_DEPTH} deep, and is refused. "
        "It is damaged; export it again."
    )

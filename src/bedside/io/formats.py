"""The table of file formats: how each is recognised, read and written.

Light, because the command line imports it for its choices: code is named "module:function" and
loaded on use.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.errors import UsageError


@dataclass(frozen=True)
class LabelFormat:
    """A format for labels.

    Attributes:
        name: The value of `--format`.
        suffix: Of its files.
        title: Name for messages.
        encode: Writes labels to an open file: `(labels, source, file, *, labels_spec,
            algorithm)`. A suffix .gz needs no compression here.
        write: Writes labels to a path, if several frames need several files:
            `(labels, target, *, labels_spec)`, returning the path; None if one file holds all.
        refers_to: The only image format that it can be written for; None for any.
        even_slices: Whether it supports evenly spaced slices only.
    """

    name: str
    suffix: str
    title: str
    encode: str
    write: str | None = None
    refers_to: str | None = None
    even_slices: bool = False


@dataclass(frozen=True)
class FileFormat:
    """A format of image files.

    Attributes:
        name: The value of `Source.kind`.
        title: Name for messages.
        suffixes: Of image files in data sets; formats are recognised by content only.
        open: Opens a file: `(path, *, select)` to its frames and header.
        open_labels: Opens a file of labels likewise; None if `open` does.
        begins: First bytes of its files, any of these.
        recognise: Further test: `(first 1024 bytes)` to bool.
        gzipped: Whether it is read from gzip files too.
        open_series: Opens several files as one image; None if the format has no series.
        why_no_image: Why a file is no image to segment, by its first 4096 bytes, decompressed:
            `(head)` to the end of a sentence, or None.
        header: Module with `write_headers` and `read_headers`, which bring headers out of the
            sandbox; None if headers are None.
        label_suffixes: Of label files in data sets; empty if labels are not read from it.
        labels: Formats for labels.
        default_labels: The default one for its images; the first of `labels` if empty.
        has_label_class: Whether files state themselves that they are label maps.
        has_place: Whether files can place an image in the patient.
        open_axis: Whether files may leave open if the third axis is time or space.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    open: str
    open_labels: str | None = None
    begins: tuple[bytes, ...] = ()
    recognise: str | None = None
    gzipped: bool = False
    open_series: str | None = None
    why_no_image: str | None = None
    header: str | None = None
    label_suffixes: tuple[str, ...] = ()
    labels: tuple[LabelFormat, ...] = ()
    default_labels: str = ""
    has_label_class: bool = False
    has_place: bool = False
    open_axis: bool = False

    def matches(self, head: bytes) -> bool:
        """Whether a file with these first bytes has this format."""
        if head.startswith(self.begins):
            return True
        return self.recognise is not None and bool(load(self.recognise)(head))

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that its reader needs."""
        named = (self.open, self.open_series, self.recognise, self.why_no_image, self.header)
        return tuple(dict.fromkeys(each.partition(":")[0] for each in named if each))


FORMATS: Mapping[str, FileFormat] = {
    each.name: each
    for each in (
        FileFormat(
            name="dicom",
            title="DICOM (a file with DICM at byte 128)",
            suffixes=(".dcm",),
            recognise="bedside.io.dicom.bare:is_dicom",
            open="bedside.io.dicom.cine:open_dicom",
            open_series="bedside.io.dicom.series:open_series",
            why_no_image="bedside.io.dicom.no_image:why_no_image",
            header="bedside.io.sandbox.dicom_headers",
            labels=(
                LabelFormat("dicom-seg", ".dcm", "DICOM SEG",
                            "bedside.io.dicom.seg:encode_seg", refers_to="dicom"),
                LabelFormat("dicom-labelmap", ".dcm", "DICOM label map",
                            "bedside.io.dicom.seg:encode_labelmap", refers_to="dicom"),
            ),
            has_label_class=True,
            has_place=True,
        ),
        FileFormat(
            name="nifti",
            title="NIfTI",
            suffixes=(".nii.gz", ".nii"),
            begins=(b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"),
            gzipped=True,
            open="bedside.io.nifti.file:open_nifti",
            why_no_image="bedside.io.own_results:why_own_nifti",
            header="bedside.io.sandbox.nifti_headers",
            label_suffixes=(".nii.gz", ".nii"),
            labels=(LabelFormat("nifti", ".nii.gz", "NIfTI",
                                "bedside.io.nifti.labels:encode_nifti", even_slices=True),),
            has_place=True,
            open_axis=True,
        ),
        FileFormat(
            name="metaimage",
            title="MetaImage",
            suffixes=(".mha", ".mhd"),
            recognise="bedside.io.metaimage.header:is_metaimage",
            open="bedside.io.metaimage.file:open_metaimage",
            header="bedside.io.sandbox.nifti_headers",
            label_suffixes=(".mha", ".mhd"),
            default_labels="nifti",
            open_axis=True,
        ),
        FileFormat(
            name="nrrd",
            title="NRRD",
            suffixes=(".nrrd", ".nhdr"),
            recognise="bedside.io.nrrd.header:is_nrrd",
            open="bedside.io.nrrd.file:open_nrrd",
            why_no_image="bedside.io.nrrd.header:why_segmentation",
            header="bedside.io.sandbox.nifti_headers",
            label_suffixes=(".seg.nrrd", ".nrrd", ".nhdr"),
            labels=(LabelFormat("seg-nrrd", ".seg.nrrd", "NRRD",
                                "bedside.io.nrrd.seg:encode_seg_nrrd", even_slices=True),),
            has_place=True,
            open_axis=True,
        ),
        FileFormat(
            name="picture",
            title="PNG or JPEG",
            suffixes=(".png", ".jpg", ".jpeg"),
            begins=(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"),
            open="bedside.io.raster:read_picture",
            open_labels="bedside.io.raster:read_label_picture",
            why_no_image="bedside.io.own_results:why_own_png",
            # Labels are never read from JPEG: its compression invents values.
            label_suffixes=(".png",),
            labels=(LabelFormat("png", ".png", "PNG", "bedside.io.raster:encode_png",
                                write="bedside.io.raster:write_pngs"),),
        ),
    )
}  # fmt: skip
"""A row for each format."""


def load(name: str) -> Any:
    """Import the function, or the module, that a row names."""
    module, _, function = name.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, function) if function else loaded


def expected() -> str:
    """Return the end of the message about a file of an unsupported format."""
    *first, last = (each.title for each in FORMATS.values())
    return f"expected {', '.join(first)}, {last}"


def label_formats() -> dict[str, LabelFormat]:
    """Return the formats for labels by name."""
    return {each.name: each for row in FORMATS.values() for each in row.labels}


def find_label_format(name: str, kind: str, path: Path) -> LabelFormat:
    """Return the format for the labels of an image.

    Args:
        name: The value of `--format`; "auto" for the default of the image's format.
        kind: The format of the image.
        path: The image, for errors.

    Raises:
        UsageError: If the name is unknown, or the format cannot refer to this image.
    """
    known = label_formats()
    row = FORMATS[kind]
    if name == "auto":
        name = row.default_labels or row.labels[0].name
    if name not in known:
        raise UsageError(f'format is "{name}"; choose one of {", ".join(known)}.')
    found = known[name]
    if found.refers_to not in (None, kind):
        others = [each.name for each in known.values() if each.refers_to is None]
        raise UsageError(
            f"{path} is not {str(found.refers_to).upper()}, so its labels cannot be a "
            f"{found.title}. Choose --format {', '.join(others[:-1])} or {others[-1]}."
        )
    return found

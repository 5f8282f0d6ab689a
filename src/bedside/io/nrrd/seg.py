"""Labels as `.seg.nrrd`, which 3D Slicer opens as segments with names and colours, or as `.nrrd`.

Source: Slicer's developer guide, "Segmentation labelmap file format (.seg.nrrd)",
https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import numpy as np

from bedside.io.even_grid import EvenGrid, find_even_grid
from bedside.io.opened import Algorithm, Source
from bedside.spec import Code, Label
from bedside.volume import Geometry, ImageSequence, LabelMap

_NO_EXTENT = "0 -1 0 -1 0 -1"
_BINARY = "Binary labelmap"
# Labels are long runs of one value: higher levels take longer and save next to nothing.
_GZIP_LEVEL = 3


def encode_seg_nrrd(
    labels: LabelMap, source: Source, file: BinaryIO, *, labels_spec: tuple[Label, ...],
    algorithm: Algorithm,
) -> None:  # fmt: skip
    """Write labels on the grid of their source, slice by slice, compressed.

    Labels of uneven slices are repeated on an even grid. Where the source has no place in the
    patient the file has none either, only the spacing that is known.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: The segmented image.
        file: The file to write to.
        labels_spec: Names, colours and codes of the structures.
        algorithm: Name and version of the bundle; stored under its own key.

    Raises:
        OSError: If it cannot be written.
    """
    grid = _Grid.of(labels, source)
    made_by = f"{algorithm.name} {algorithm.version} sha256:{algorithm.sha256}"
    lines = [*grid.describe("unsigned char", "gzip"), *_describe_all(grid, labels_spec, made_by)]
    file.write(_join(lines))
    # gzip without a name and a time: the same labels give the same bytes.
    deflater = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    for frame in grid.frames:
        file.write(deflater.compress(np.ascontiguousarray(frame, np.uint8).tobytes()))
    file.write(deflater.flush())


def encode_plain_nrrd(
    labels: LabelMap, source: Source, file: BinaryIO, *, dtype: Literal["uint8", "uint16"]
) -> None:
    """Write labels on the grid of their source as numbers only, not compressed.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: The segmented image.
        file: The file to write to.
        dtype: Type of the numbers.

    Raises:
        OSError: If it cannot be written.
    """
    grid = _Grid.of(labels, source)
    endian = ["endian: little"] if dtype == "uint16" else []
    file.write(_join([*grid.describe(dtype, "raw"), *endian]))
    for frame in grid.frames:
        file.write(np.ascontiguousarray(frame, np.dtype(dtype).newbyteorder("<")).tobytes())


@dataclass(frozen=True)
class _Grid:
    """Labels on the grid of a file, whose slices are even.

    Attributes:
        array: Labels on the source's grid.
        sequence: The source, with the place of the file.
        even: How slices are repeated; None where they are even already.
    """

    array: np.ndarray
    sequence: ImageSequence
    even: EvenGrid | None

    @classmethod
    def of(cls, labels: LabelMap, source: Source) -> "_Grid":
        sequence = _place_film(source)
        even = find_even_grid(sequence)
        if even is not None:
            sequence = replace(sequence, geometry=even.geometry)
        return cls(labels.array, sequence, even)

    @property
    def frames(self) -> Iterable[np.ndarray]:
        """The slices of the file."""
        return self.array if self.even is None else self.even.repeat(self.array)

    def describe(self, kind: str, encoding: str) -> list[str]:
        """Return the lines for type, size and place."""
        depth, height, width = self.array.shape if self.even is None else self.even.geometry.shape
        return [
            "NRRD0004",
            f"type: {kind}",
            "dimension: 3",
            *(["space: left-posterior-superior"] if self.sequence.geometry else []),
            f"sizes: {width} {height} {depth}",
            *_place(self.sequence),
            "kinds: domain domain domain",
            f"encoding: {encoding}",
        ]


def _place_film(source: Source) -> ImageSequence:
    """Return frames in time with the place of their file's third axis."""
    sequence, grid = source.sequence, source.header
    if sequence.third_axis != "time" or source.kind not in ("nrrd", "metaimage") or grid is None:
        return sequence
    if len(grid.shape) != 3:
        return sequence
    frames, _, *plane = sequence.shape
    return replace(
        sequence, geometry=Geometry((frames, *plane), grid.affine[:, [2, 1, 0, 3]], space="RAS")
    )


def _describe_all(grid: _Grid, labels_spec: tuple[Label, ...], made_by: str) -> list[str]:
    """Return the lines for all structures."""
    extents = _find_extents(grid.frames)
    lines = []
    for index, label in enumerate(labels_spec):
        lines += _describe(f"Segment{index}", label, extents.get(label.value, _NO_EXTENT))
    return [
        *lines,
        f"Segmentation_ContainedRepresentationNames:={_BINARY}|",
        # Slicer before 5.2 looks for the first of these names, later ones for the second.
        f"Segmentation_MasterRepresentation:={_BINARY}",
        f"Segmentation_SourceRepresentation:={_BINARY}",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
        f"bedside_made_by:={_plain(made_by)}",
    ]


def _join(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def _place(sequence: ImageSequence) -> list[str]:
    """Return the lines that place the voxels, fastest axis first."""
    if sequence.geometry is None:
        row_mm, column_mm = sequence.spacing_mm or (np.nan, np.nan)
        slice_mm = sequence.slice_spacing_mm or np.nan
        return [f"spacings: {column_mm!r} {row_mm!r} {slice_mm!r}"]
    affine = sequence.geometry.affine
    directions = " ".join(_vector(affine[:3, axis]) for axis in (2, 1, 0))
    return [f"space directions: {directions}", f"space origin: {_vector(affine[:3, 3])}"]


def _vector(numbers: np.ndarray) -> str:
    return "(" + ",".join(repr(float(number)) for number in numbers) + ")"


def _find_extents(frames: Iterable[np.ndarray]) -> dict[int, str]:
    """Return the first and last voxel of every label along x, y and z."""
    found: dict[int, list[int]] = {}
    for z, frame in enumerate(frames):
        for value in np.flatnonzero(np.bincount(frame.ravel(), minlength=256)[1:]) + 1:
            mask = frame == value
            columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
            own = [columns[0], columns[-1], rows[0], rows[-1], z, z]
            first = found.get(int(value), own)
            found[int(value)] = [
                (min if place % 2 == 0 else max)(pair)
                for place, pair in enumerate(zip(first, own, strict=True))
            ]
    return {value: " ".join(str(int(each)) for each in own) for value, own in found.items()}


def _describe(prefix: str, label: Label, extent: str) -> list[str]:
    """Return the lines of one structure."""
    color = " ".join(f"{part / 255:.6g}" for part in label.color)
    codes = "~".join(_code(code) for code in (label.category, label.type))
    terms = (
        f"Segmentation category and type - DICOM master list~{codes}~^^~"
        "Anatomic codes - DICOM master list~^^~^^"
    )
    return [
        f"{prefix}_ID:=Segment_{label.value}",
        f"{prefix}_Name:={_plain(label.name)}",
        f"{prefix}_NameAutoGenerated:=0",
        f"{prefix}_Color:={color}",
        f"{prefix}_ColorAutoGenerated:=0",
        f"{prefix}_LabelValue:={label.value}",
        f"{prefix}_Layer:=0",
        f"{prefix}_Extent:={extent}",
        f"{prefix}_Tags:=TerminologyEntry:{terms}|",
    ]


def _code(code: Code) -> str:
    """Return a coded concept as Slicer writes it, without its separators inside."""
    parts = (code.scheme, code.value, code.meaning)
    return "^".join(re.sub(r"[~^|]", " ", _plain(part)) for part in parts)


def _plain(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.replace("\\", "/").split())

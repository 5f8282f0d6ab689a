"""Conversion of stored pixels to values: padding, inversion, rescale, for each slice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError
from bedside.io.dicom.files import read_decimals
from bedside.io.dicom.luts import Table, is_big_endian, read_modality_lut
from bedside.io.dicom.options import DicomOptions

VALUE_TAGS = (
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)  # fmt: skip
"""What is read of a header besides the attributes of its pixels."""

_AIR_HU = -1024.0
_SIGN_BIT = 2**15
# Above the HU of any metal: larger values have lost their sign.
_DENSEST_HU = 30000
_LOST_SIGN = (
    "stored values from 32768 on were taken as negative: the header calls them unsigned, which "
    "no HU can be"
)
# Rescale types that mean Hounsfield units.
_HOUNSFIELD = ("", "HU", "US", "HU_MOD")


@dataclass(frozen=True)
class ValueRule:
    """Conversion of the stored pixels of one image to values.

    Attributes:
        slope: Value of one stored step.
        intercept: Value of a stored 0.
        inverted: Sum of the smallest and the largest stored value, if stored values are to be
            inverted; else None.
        padding: (low, high), stored values outside the image; None if there are none.
        fill: The value of padding.
        sign_lost: Whether stored values from 2**15 on are negative ones that lost their sign.
        dtype: Of the values.
        table: The lookup table that replaces slope and intercept, inverted already if needed.
        notes: Warnings.
    """

    slope: float
    intercept: float
    inverted: int | None
    padding: tuple[int, int] | None
    fill: float
    sign_lost: bool
    dtype: np.dtype[Any]
    table: Table | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether values are the stored ones."""
        same = self.slope == 1 and self.intercept == 0 and self.inverted is None
        return same and self.padding is None and not self.sign_lost and self.table is None

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Return a decoded frame, not yet inverted, as values of `dtype`, same shape."""
        if self.is_plain:
            return frame.astype(self.dtype, copy=False)
        kind: Any = np.float32 if self.dtype.kind == "f" else np.int32
        values = (self._rescale if self.table is None else self.table.look_up)(frame)
        values = values.astype(kind, copy=False)
        if self.padding is not None:
            low, high = self.padding
            values[(frame >= low) & (frame <= high)] = kind(self.fill)
        return values.astype(self.dtype, copy=False)

    def _rescale(self, stored: np.ndarray) -> np.ndarray:
        """Return stored values inverted and rescaled."""
        if self.sign_lost:
            stored = stored.view(np.int16) if stored.dtype == np.uint16 else stored
        kind: Any = np.float32 if self.dtype.kind == "f" else np.int32
        values: np.ndarray = stored.astype(kind)
        if self.inverted is not None:
            values = kind(self.inverted) - values
        if self.slope != 1:
            values *= kind(self.slope)
        if self.intercept:
            values += kind(self.intercept)
        return values


def read_rule(
    dataset: Any, path: Path, *, modality: str | None, options: DicomOptions,
    transformation: Any = None,
) -> ValueRule:  # fmt: skip
    """Return the value rule of an image.

    Args:
        dataset: Its header.
        path: Its file, for errors.
        modality: DICOM's word for the kind of image.
        options: Options for CT without a rescale.
        transformation: The item of PixelValueTransformationSequence of a frame, instead of the
            header.

    Raises:
        FormatError: If slope or intercept is not a number, or missing in CT.

    Source:
        DICOM PS3.3 C.11.1 (rescale), C.7.5.1.1.2 (padding).
    """
    lut = _find_lut(dataset, transformation)
    if lut is not None:
        return _read_lut_rule(dataset, lut, path, modality=modality, options=options)
    where = dataset if transformation is None else transformation
    slope = _read_decimal(where, "RescaleSlope", path)
    intercept = _read_decimal(where, "RescaleIntercept", path)
    if modality == "CT" and None in (slope, intercept) and not options.values_are_hu:
        lacking = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise FormatError(
            f"{path} is CT without {lacking}, so its Hounsfield units are not known. Pass "
            "--values-are-hu if the stored values are HU."
        )
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        raise FormatError(
            f"{path}: RescaleSlope is 0, which makes all values equal. Export it again."
        )
    bits, signed = int(dataset.BitsStored), dataset.PixelRepresentation == 1
    rule = ValueRule(
        slope=slope,
        intercept=intercept,
        inverted=(-1 if signed else 2**bits - 1) if _is_inverted(dataset, modality) else None,
        padding=_read_padding(dataset, signed=signed),
        fill=0.0,
        sign_lost=modality == "CT"
        and not signed
        and (bits, slope) == (16, 1)
        and _SIGN_BIT + intercept > _DENSEST_HU,
        dtype=np.dtype(np.float32),
        notes=_describe_units(where, modality),
    )
    rule = replace(rule, dtype=_find_dtype(dataset, rule))
    if modality != "CT":
        return replace(rule, fill=rule.intercept)
    # Unsigned values without an offset are never negative.
    return replace(rule, fill=0.0 if rule.dtype.kind == "u" else _AIR_HU)


def _find_lut(dataset: Any, transformation: Any) -> Any:
    """Return the Modality LUT of an image or of one of its frames; None if there is none."""
    for holder in (transformation, dataset):
        found = None if holder is None else holder.get("ModalityLUTSequence")
        if found:
            return found[0]
    return None


def _read_lut_rule(
    dataset: Any, lut: Any, path: Path, *, modality: str | None, options: DicomOptions
) -> ValueRule:
    """Return the rule of an image with a Modality LUT."""
    unit = str(lut.get("ModalityLUTType") or "")
    if modality == "CT" and unit != "HU" and not options.values_are_hu:
        raise FormatError(
            f'{path} is CT with a Modality LUT of type "{unit}", so its Hounsfield units are not '
            "known. Pass --values-are-hu if the LUT's entries are HU."
        )
    table = read_modality_lut(lut, dataset, path)
    notes = []
    if any(_read_decimal(dataset, f"Rescale{word}", path) not in (None, default)
           for word, default in (("Slope", 1), ("Intercept", 0))):  # fmt: skip
        notes.append("the header has both a Modality LUT and a rescale; the LUT was applied")
    entries = table.entries
    if modality == "CT" and entries.max() > _DENSEST_HU:
        # The entries of a table are unsigned, which Hounsfield units are not.
        entries = entries.astype(np.uint16).view(np.int16)
        notes.append(_LOST_SIGN)
    if _is_inverted(dataset, modality):
        entries = (int(entries.min()) + int(entries.max()) - entries).astype(entries.dtype)
    return ValueRule(
        slope=1.0,
        intercept=0.0,
        inverted=None,
        padding=_read_padding(dataset, signed=dataset.PixelRepresentation == 1),
        fill=_AIR_HU if modality == "CT" else float(entries.min()),
        sign_lost=False,
        dtype=np.dtype(np.int16) if modality == "CT" else entries.dtype,
        table=replace(table, entries=entries),
        notes=tuple(notes),
    )


def _is_inverted(dataset: Any, modality: str | None) -> bool:
    """Whether values are to be inverted, so that more is brighter.

    HU and activity are not: MONOCHROME1 only tells viewers how to display them.
    """
    return dataset.PhotometricInterpretation == "MONOCHROME1" and modality not in ("CT", "PT")


def _describe_units(holder: Any, modality: str | None) -> tuple[str, ...]:
    """Return a warning about CT in other units than HU."""
    unit = str(holder.get("RescaleType") or "").strip()
    if modality != "CT" or unit in _HOUNSFIELD:
        return ()
    return (f'the values of this CT are in "{unit}" and not in HU; do not rely on the labels',)


def is_colour(dataset: Any) -> bool:
    """Whether an image is in colour and has no value rule."""
    palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    return bool(dataset.SamplesPerPixel != 1) or palette


def read_colour_rule(dataset: Any) -> ValueRule:
    """Return the rule that leaves colours as decoded."""
    wide = dataset.BitsAllocated == 16 and dataset.PhotometricInterpretation != "PALETTE COLOR"
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    return ValueRule(1.0, 0.0, None, None, 0.0, sign_lost=False, dtype=dtype)


def with_one_dtype(rules: Sequence[ValueRule]) -> list[ValueRule]:
    """Return the rules of all slices with the dtype that holds the values of each."""
    dtype = np.result_type(*{rule.dtype for rule in rules})
    dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype
    return [replace(rule, dtype=dtype) for rule in rules]


def describe_rule(
    rule: ValueRule, probe: np.ndarray, *, modality: str | None, photometric: str
) -> list[str]:
    """Return warnings about the conversion to values.

    Args:
        rule: Of the image.
        probe: A frame as stored.
        modality: DICOM's word for the kind of image.
        photometric: PhotometricInterpretation.
    """
    notes = [*rule.notes]
    if rule.sign_lost and probe.dtype == np.uint16 and (probe >= _SIGN_BIT).any():
        notes.append(_LOST_SIGN)
    if photometric == "MONOCHROME1" and modality in ("CT", "PT"):
        notes.append("the image is shown inverted; its values were used as stored")
    if rule.padding is not None:
        low, high = rule.padding
        if ((probe >= low) & (probe <= high)).any():
            notes.append(f"padding around the image was set to {rule.fill:g}")
    return notes


def _read_decimal(dataset: Any, keyword: str, path: Path) -> float | None:
    """Return a decimal string as a number; None only if the attribute is missing."""
    if keyword not in dataset:
        return None
    try:
        (number,) = read_decimals(dataset, keyword)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raw = dataset.get_item(keyword).value
        raise FormatError(
            f"{path}: {keyword} is {raw!r}; expected one number with a decimal point. "
            "The header is damaged; export it again."
        )
    return number


def _read_padding(dataset: Any, *, signed: bool) -> tuple[int, int] | None:
    """Return the stored values of padding, with a lost sign restored."""
    ends = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    numbers = []
    for end in ends:
        if isinstance(end, bytes):
            end = int.from_bytes(end[:2], "big" if is_big_endian(dataset) else "little")
        if isinstance(end, int):
            # A value of the other signedness: the same 16 bits, read as the pixels are.
            wrapped = end & 0xFFFF
            numbers.append(wrapped - 2**16 if signed and wrapped >= _SIGN_BIT else wrapped)
    return (min(numbers), max(numbers)) if numbers and isinstance(ends[0], int | bytes) else None


def _find_dtype(dataset: Any, rule: ValueRule) -> np.dtype[Any]:
    """Return the smallest dtype for whole numbers, f32 for others."""
    bits, signed = int(dataset.BitsStored), dataset.PixelRepresentation == 1
    if rule.slope != 1 or rule.intercept != int(rule.intercept):
        return np.dtype(np.float32)
    width = int(dataset.BitsAllocated)
    if rule.intercept == 0 and not rule.sign_lost:
        return np.dtype(f"{'i' if signed else 'u'}{width // 8}")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if rule.sign_lost:
        low, high = -_SIGN_BIT, _SIGN_BIT - 1
    low, high = low + int(rule.intercept), high + int(rule.intercept)
    fits = low >= -(2**15) and high < 2**15
    return np.dtype(np.int16 if fits else np.int32)

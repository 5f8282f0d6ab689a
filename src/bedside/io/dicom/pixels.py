"""Frames of a DICOM file, decoded one at a time: grey as stored, colour as RGB."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

from bedside.errors import FormatError
from bedside.io.dicom.jpeg_plugin import find_decoder
from bedside.io.dicom.luts import read_palette
from bedside.io.dicom.rle import decode_rle
from bedside.io.dicom.warnings import collected_warnings

# Two JPEG decoders differ by rounding (mean 0.02 here); a wrong colour space by tens.
_JPEG_MEAN_DIFFERENCE = 1.0
_OPTIONS = {
    "rows": "Rows",
    "columns": "Columns",
    "samples_per_pixel": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "photometric_interpretation": "PhotometricInterpretation",
    "pixel_representation": "PixelRepresentation",
}


class FrameDecoder:
    """Decodes any frame of a file to (C, H, W), without decoding the ones before it.

    The encapsulated stream is parsed once. JPEG baseline frames are decoded by OpenCV, ten times
    faster than by pydicom, but only if both give the same first frame: their rules for the colour
    space differ.
    """

    def __init__(self, dataset: Any, path: Path, frames: int, *, probe: bool = True) -> None:
        """Take the pixel data out of `dataset`.

        Args:
            dataset: A pydicom dataset whose image attributes have been checked.
            path: Its file, for errors.
            frames: Number of frames it declares.
            probe: Whether the first frame is decoded at once, to refuse damaged files early.

        Raises:
            FormatError: If frames are missing or truncated, the transfer syntax cannot be
                decoded, or the first frame does not match the header.
        """
        self._path = path
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        self._decoder = _find_decoder(syntax, path)
        self._is_rle = syntax == RLELossless
        self._options = {name: dataset[keyword].value for name, keyword in _OPTIONS.items()}
        self._options["planar_configuration"] = dataset.get("PlanarConfiguration") or 0
        self._options["pixel_keyword"] = "PixelData"
        self._options["pixel_vr"] = dataset["PixelData"].VR
        self._palette = read_palette(dataset, path)
        self._frames: list[bytes] | None = None
        self._buffer = b""
        self._by_opencv = False
        if syntax.is_encapsulated:
            self._frames = _split_frames(dataset, path, frames)
            self._options["number_of_frames"] = 1
        else:
            self._buffer = dataset.PixelData
            self._options["number_of_frames"] = frames
            _check_length(dataset, path, frames)
        del dataset.PixelData
        first = self(0) if probe else None
        if first is not None and syntax == JPEGBaseline8Bit:
            quick = self._decode_by_opencv(0)
            difference = np.abs(first.astype(np.int16) - quick).mean() if quick is not None else 255
            self._by_opencv = difference <= _JPEG_MEAN_DIFFERENCE

    def __call__(self, index: int) -> np.ndarray:
        """Decode frame `index`.

        Returns:
            (C, H, W) in the stored dtype, writeable; colours are a view of (H, W, C) memory if
            the decoder returns that.

        Raises:
            FormatError: If the frame cannot be decoded, or has another size.
        """
        image = self._decode_by_opencv(index) if self._by_opencv else self._decode_by_pydicom(index)
        if image is None or image.shape[1:] != (self._options["rows"], self._options["columns"]):
            raise FormatError(
                f"{self._path}: frame {index + 1} does not decode to "
                f"{self._options['rows']} x {self._options['columns']} pixels. "
                "The file is damaged; export it again."
            )
        return image

    def has_stray_bits(self, index: int) -> bool:
        """Whether a frame has bits above those stored, which decoding drops."""
        if self._options["bits_stored"] == self._options["bits_allocated"] or self._by_opencv:
            return False
        raw, _ = self._decode_raw(index)
        return not np.array_equal(raw, _drop_stray_bits(raw, self._options["bits_stored"]))

    def _decode_by_opencv(self, index: int) -> np.ndarray | None:
        """Decode a JPEG baseline frame; None if it is damaged."""
        assert self._frames is not None
        colour = self._options["samples_per_pixel"] == 3
        kind = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
        encoded = np.frombuffer(self._frames[index], np.uint8)
        try:
            image = cv2.imdecode(encoded, kind | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            return None
        return None if image is None else self._finish(image, "RGB" if colour else "")

    def _decode_by_pydicom(self, index: int) -> np.ndarray:
        """Decode a frame of any transfer syntax."""
        image, colour_space = self._decode_raw(index)
        return self._finish(_drop_stray_bits(image, self._options["bits_stored"]), colour_space)

    def _decode_raw(self, index: int) -> tuple[np.ndarray, str]:
        """Return a frame with bits above those stored, and its colour space."""
        source: bytes = self._buffer
        number = index
        if self._frames is not None:
            image = self._decode_by_pillow(self._frames[index])
            if image is not None:
                return image, self._options["photometric_interpretation"]
            source, number = encapsulate([self._frames[index]], has_bot=False), 0
        try:
            with collected_warnings():
                image, properties = self._decoder.as_array(
                    source, index=number, raw=True, correct_unused_bits=False, **self._options
                )
        except Exception as error:
            raise FormatError(
                f"{self._path}: frame {index + 1} cannot be decoded "
                f"({self._decoder.UID.name}): {_first_line(error)}. "
                "It is damaged, or of a form that is not read; convert the file to an uncompressed "
                "transfer syntax."
            ) from error
        return image, str(properties["photometric_interpretation"])

    def _decode_by_pillow(self, frame: bytes) -> np.ndarray | None:
        """Decode an RLE frame; None if it is of another syntax, or malformed."""
        if not self._is_rle:
            return None
        options = self._options
        samples, signed = options["samples_per_pixel"], options["pixel_representation"]
        dtype = np.dtype(f"{'i' if signed else 'u'}{options['bits_allocated'] // 8}")
        image = decode_rle(frame, (options["rows"], options["columns"], samples), dtype)
        return image if image is None or samples > 1 else image[..., 0]

    def _finish(self, image: np.ndarray, colour_space: str) -> np.ndarray:
        """Return (H, W) or (H, W, 3) as (C, H, W), grey or RGB."""
        if self._palette is not None:
            image = self._palette.look_up(image)
        elif colour_space.startswith("YBR_FULL"):
            swapped = np.empty_like(image, order="C")
            cv2.mixChannels([np.ascontiguousarray(image)], [swapped], [0, 0, 1, 2, 2, 1])
            image = cv2.cvtColor(swapped, cv2.COLOR_YCrCb2RGB)
        channels_first = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        # A view: OpenCV, which needs channels last, gets them without a copy.
        return channels_first.astype(image.dtype.newbyteorder("="), copy=False)


def describe_stray_bits(decoder: FrameDecoder) -> list[str]:
    """Return a warning about bits above those stored, where old machines keep overlays."""
    if not decoder.has_stray_bits(0):
        return []
    return ["bits above those stored were set in the pixels, and were ignored"]


def _find_decoder(syntax: UID, path: Path) -> Any:
    """Return pydicom's decoder for a transfer syntax."""
    try:
        decoder = find_decoder(syntax)
    except NotImplementedError:
        raise FormatError(
            f"{path}: transfer syntax {syntax.name} ({syntax}) cannot be decoded. "
            "Convert it to an uncompressed transfer syntax, JPEG, JPEG 2000 or RLE."
        ) from None
    if not decoder.is_available:
        packages = "; or ".join(text.strip() for text in decoder.missing_dependencies)
        raise FormatError(
            f"{path}: transfer syntax {syntax.name} needs a package that is not installed: "
            f"{packages}."
        )
    return decoder


def _split_frames(dataset: Any, path: Path, frames: int) -> list[bytes]:
    """Split an encapsulated stream into its frames, all of which must be complete."""
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    try:
        found = list(
            generate_frames(
                dataset.PixelData or b"", number_of_frames=frames, extended_offsets=offsets
            )
        )
    except Exception as error:
        raise FormatError(
            f"{path}: the pixel data cannot be cut into {frames} frames: {_first_line(error)}. "
            "The file is truncated or damaged; export it again."
        ) from error
    whole = [frame for frame in found if frame]
    if len(whole) < frames:
        raise FormatError(
            f"{path}: {len(whole)} of {frames} frames are there. "
            "The file is truncated; export it again."
        )
    if dataset.file_meta.TransferSyntaxUID in (JPEGBaseline8Bit, JPEGExtended12Bit):
        for number, frame in enumerate(whole[:frames], start=1):
            # The end-of-image marker never occurs in coded data; padding may follow.
            if b"\xff\xd9" not in frame[-1024:]:
                raise FormatError(
                    f"{path}: the JPEG of frame {number} has no end. "
                    "The file is truncated; export it again."
                )
    return whole[:frames]


def _check_length(dataset: Any, path: Path, frames: int) -> None:
    """Refuse uncompressed pixel data that is shorter than declared."""
    samples = int(dataset.SamplesPerPixel)
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        samples = 2
    per_frame = dataset.Rows * dataset.Columns * samples * (dataset.BitsAllocated // 8)
    if len(dataset.PixelData) < per_frame * frames:
        raise FormatError(
            f"{path}: the pixel data has {len(dataset.PixelData)} bytes; {frames} frames of "
            f"{dataset.Rows} x {dataset.Columns} need {per_frame * frames}. "
            "The file is truncated; export it again."
        )


def _drop_stray_bits(image: np.ndarray, bits_stored: int) -> np.ndarray:
    """Replace the bits above those stored, which overlays may use, by the sign."""
    spare = 8 * image.dtype.itemsize - bits_stored
    if spare <= 0:
        return image
    dropped: np.ndarray = (image << spare) >> spare
    return dropped


def _first_line(error: Exception) -> str:
    """Return the first line of a library's message that gives a reason."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not line.endswith(":")]
    return (reasons or [type(error).__name__])[0].rstrip(".")

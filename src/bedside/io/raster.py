"""PNG and JPEG read as a single frame, and labels written as PNG."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo

from bedside.errors import FormatError, UsageError
from bedside.io.opened import Algorithm, Source
from bedside.io.own_results import PNG_KEY, PNG_TEXT
from bedside.io.pixel_spacing import NO_SCALE
from bedside.io.select import choose_place
from bedside.system.atomic import files_together, output_errors, written_atomically
from bedside.volume import ImageSequence, LabelMap

if TYPE_CHECKING:
    from bedside.spec import Label

MAX_BYTES = 2**31
"""Largest decoded picture that is read: 2 GiB."""

_TURNED = "EXIF says that the picture is to be turned"
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112
_GREY = ("1", "L", "LA", "La")
_GREY16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_picture(
    path: Path, *, select: Mapping[str, int] | None = None
) -> tuple[ImageSequence, None]:
    """Open a PNG or JPEG, as the table of formats calls it.

    Raises:
        FormatError: As `open_picture`, or if one of several images is selected.
    """
    choose_place(select, {}, path)
    return open_picture(path), None


def read_label_picture(
    path: Path, *, select: Mapping[str, int] | None = None
) -> tuple[ImageSequence, None]:
    """Open labels written as PNG: numbers of a palette of colours are the labels.

    Raises:
        FormatError: As `read_picture`.
    """
    choose_place(select, {}, path)
    return open_picture(path, as_labels=True), None


def open_picture(
    path: Path, *, max_bytes: int = MAX_BYTES, as_labels: bool = False
) -> ImageSequence:
    """Open a PNG or JPEG as a sequence of one frame, grey or RGB, 8 or 16 bits.

    EXIF orientation is ignored, so that a mask matches the stored pixels. Transparency is dropped
    and palettes are converted, with a warning where it may matter.

    Args:
        path: The file.
        max_bytes: A picture that decodes to more is refused before decoding.
        as_labels: Keep the numbers of a palette of colours.

    Raises:
        FormatError: If it is not a picture, damaged, or too large.
    """
    notes: list[str] = []
    try:
        with path.open("rb") as file, _open_image(file) as image:
            _check_size(image, path, max_bytes)
            # Before warnings: EXIF may follow the pixels.
            image.load()
            _note_oddities(image, notes)
            numbers = _read_labels(image) if as_labels else None
            array = _read_pixels(image) if numbers is None else numbers
    # Warning: Python may be set to raise them.
    except (OSError, SyntaxError, ValueError, EOFError, Warning) as error:
        raise FormatError(
            f"{path} is a truncated or damaged picture: {error}. Save it again."
        ) from error
    frame = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    height, width = frame.shape[1:]
    notes.append(NO_SCALE)
    return ImageSequence(
        shape=(1, frame.shape[0], height, width),
        # In decoded memory order: colours together at each pixel.
        decode=lambda _index: frame.copy(order="K"),
        warnings=tuple(notes),
    )


def is_turned(sequence: ImageSequence) -> bool:
    """Whether a picture is to be turned by its EXIF, which is not done."""
    return any(text.startswith(_TURNED) for text in sequence.warnings)


def encode_png(
    labels: LabelMap, source: Source, file: BinaryIO, *, labels_spec: tuple["Label", ...],
    algorithm: Algorithm,
) -> None:  # fmt: skip
    """Write the labels of a single frame as PNG to an open file.

    Raises:
        UsageError: If there are several frames.
    """
    if len(labels.array) > 1:
        raise UsageError(
            f"a PNG holds one frame, the labels of {source.path} have {len(labels.array)}. Choose "
            "another format, or write them to a path: they become a folder."
        )
    _write_png(labels.array[0], _make_palette(labels_spec), file)


def write_pngs(labels: LabelMap, target: Path, *, labels_spec: tuple["Label", ...]) -> Path:
    """Write labels as PNG: pixels hold label numbers, the palette their colours.

    One frame becomes the file `target`; several become `frame_0001.png` and so on in a
    folder named as `target` without its suffix.

    Args:
        labels: (frames, height, width).
        target: The file to write.
        labels_spec: Numbers and colours of the labels.

    Returns:
        The file or folder written.

    Raises:
        OutputError: If it cannot be written.
    """
    palette = _make_palette(labels_spec)
    if len(labels.array) == 1:
        with written_atomically(target) as temporary, temporary.open("wb") as file:
            _write_png(labels.array[0], palette, file)
        return target
    folder = target.with_suffix("")
    with output_errors(folder), files_together(folder) as scratch:
        for number, frame in enumerate(labels.array, start=1):
            with (scratch / f"frame_{number:04d}.png").open("wb") as file:
                _write_png(frame, palette, file)
    return folder


def own_png_info() -> PngInfo:
    """Return the PNG text that marks a result of this program."""
    info = PngInfo()
    info.add_text(PNG_KEY, PNG_TEXT)
    return info


def _make_palette(labels_spec: tuple["Label", ...]) -> bytes:
    """Return the palette: the colour of each label, black for other values."""
    palette = np.zeros((256, 3), np.uint8)
    for label in labels_spec:
        palette[label.value] = label.color
    return palette.tobytes()


def _write_png(frame: np.ndarray, palette: bytes, file: BinaryIO) -> None:
    """Write one frame in palette mode."""
    image = Image.fromarray(np.ascontiguousarray(frame, np.uint8))
    image.putpalette(palette)
    image.save(file, format="PNG", pnginfo=own_png_info())


def _open_image(file: Any) -> Any:
    """Read a picture's header, without Pillow's process-wide size limit."""
    begins = file.read(len(_PNG))
    file.seek(0)
    return PngImageFile(file) if begins == _PNG else _Jpeg(file)


class _Jpeg(JpegImageFile):
    """A JPEG whose EXIF resolution is not parsed; Pillow would warn of damaged EXIF."""

    def _read_dpi_from_exif(self) -> None:
        """Skip EXIF."""


def _check_size(image: Any, path: Path, max_bytes: int) -> None:
    """Refuse a picture by its declared size, before decoding."""
    width, height = image.size
    size = width * height * (len(image.getbands()) if image.mode not in _GREY16 else 2)
    if size > max_bytes:
        raise FormatError(
            f"{path} declares {height} x {width} pixels, {size / 2**30:.1f} GiB; at most "
            f"{max_bytes / 2**30:g} GiB are decoded. Crop it."
        )


def _note_oddities(image: Any, notes: list[str]) -> None:
    """Add warnings about unusual pictures."""
    orientation = _read_orientation(image.info.get("exif") or b"")
    if orientation != 1:
        notes.append(f"{_TURNED} (orientation {orientation}); it is taken as stored")
    if "mp" in image.info:
        notes.append("the file holds several pictures; the first is taken")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"the picture has {frames} frames; the first is taken")
    if "A" in image.getbands() or "transparency" in image.info:
        notes.append("the picture's transparency is dropped")
    if image.format == "JPEG":
        notes.append("the image is compressed with loss (JPEG)")


def _read_orientation(exif: bytes) -> int:
    """Return the EXIF orientation; 1 if it is missing or damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, place)
            if tag == _ORIENTATION_TAG:
                return int(value)
    except struct.error:
        pass
    return 1


def read_colors(path: Path) -> dict[int, tuple[int, int, int]] | None:
    """Return the colour of each number that occurs in labels written as PNG.

    Args:
        path: The file.

    Returns:
        (red, green, blue) by number; None where pixels are values and not numbers of a palette.

    Raises:
        FormatError: If it is damaged.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_PNG)) != _PNG:
                return None
            file.seek(0)
            with PngImageFile(file) as image:
                if image.mode != "P":
                    return None
                image.load()
                numbers, palette = _read_labels(image), _read_palette(image)
    except (OSError, SyntaxError, ValueError, EOFError, Warning) as error:
        raise FormatError(f"{path} is a truncated or damaged picture: {error}.") from error
    if numbers is None:
        return None
    used = np.flatnonzero(np.bincount(numbers.ravel())[: len(palette)])
    return {number: tuple(palette[number].tolist()) for number in used.tolist()}


def _read_palette(image: Any) -> np.ndarray:
    """Return the palette of a picture, (colours, 3) uint8."""
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _read_labels(image: Any) -> np.ndarray | None:
    """Return the numbers of a palette of colours, (H, W) uint8; None if there is none.

    The whole palette decides, not the colours that a picture uses: among the colours of many
    structures one can be grey, and a mask of that structure alone holds its number like others.
    """
    if image.mode != "P":
        return None
    palette = _read_palette(image)
    own = image.info.get(PNG_KEY) == PNG_TEXT
    return np.array(image) if own or (palette != palette[:, :1]).any() else None


def _read_pixels(image: Any) -> np.ndarray:
    """Return pixels as (H, W) uint8 or uint16, or (H, W, 3) uint8."""
    if image.mode in _GREY16:
        array: np.ndarray = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return array
    if image.mode in _GREY:
        return np.array(image.convert("L"))
    # Dropped here, as `convert` does with a warning.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))

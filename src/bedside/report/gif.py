"""Films as GIF with one palette for all: greys, a colour cube, and every structure's colour.

Pillow compresses the frames; choosing a palette anew for each, as it would, costs more
than drawing them, and makes greys flicker.
"""

import functools
import struct
from collections.abc import Sequence
from typing import BinaryIO

import cv2
import numpy as np
from PIL import GifImagePlugin, Image

Color = tuple[int, int, int]

_GREYS = 96
_CUBE = (4, 5, 4)
_CUBE_SIZE = _CUBE[0] * _CUBE[1] * _CUBE[2]
_COLORS = 256 - _GREYS
# A difference between channels up to which JPEG's rounding, not colour, is seen.
_GREY_CHROMA = 16
_LEAST_DELAY_CS = 2


class FilmWriter:
    """Writes frames one after another, so that a long film is never held in memory."""

    def __init__(self, file: BinaryIO, colors: Sequence[Color], *, delay_ms: float) -> None:
        """Begin a film.

        Args:
            file: Open for writing bytes.
            colors: Colours that must come out true, such as those of the structures.
            delay_ms: Time from one frame to the next. GIF counts in 10 ms; the rounding
                is spread so that the film as a whole keeps time. Players take no less
                than 20 ms.
        """
        self._file = file
        self._palette = fixed_palette(tuple(colors))
        self._lookup = _nearest_lookup(self._palette.tobytes(), tuple(colors[:_COLORS]))
        self._delay_ms = delay_ms
        self._shown_ms = 0.0
        self._size: tuple[int, int] | None = None

    def add(self, picture: np.ndarray, *, delay_ms: float | None = None) -> None:
        """Append a frame.

        Args:
            picture: (height, width, 3) uint8 RGB, the same size each time.
            delay_ms: Time to the next frame, where it is not that of the film.

        Raises:
            ValueError: If its size is not that of the first.
        """
        height, width = picture.shape[:2]
        if self._size is None:
            self._size = (height, width)
            self._write_header(height, width)
        if (height, width) != self._size:
            raise ValueError(f"frame of {height} x {width} in a film of {self._size}.")
        indices = to_indices(picture, self._lookup)
        image = Image.frombuffer("P", (width, height), indices.tobytes(), "raw", "P", 0, 1)
        image.putpalette(self._palette.tobytes())
        for part in GifImagePlugin.getdata(image, duration=self._next_delay_cs(delay_ms) * 10):
            self._file.write(part)

    def close(self) -> None:
        """Write the end mark; the file itself stays open."""
        self._file.write(b";")

    def _write_header(self, height: int, width: int) -> None:
        """Write size, palette of 256, and the mark that makes players loop."""
        self._file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0))
        self._file.write(self._palette.tobytes())
        self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")

    def _next_delay_cs(self, delay_ms: float | None) -> int:
        """Delay of the next frame in hundredths of a second."""
        begin_ms = self._shown_ms
        self._shown_ms += self._delay_ms if delay_ms is None else delay_ms
        return max(_LEAST_DELAY_CS, round(self._shown_ms / 10) - round(begin_ms / 10))


def fixed_palette(colors: tuple[Color, ...]) -> np.ndarray:
    """Choose 256 colours: 96 greys, a coarse cube, and the given ones with their shades.

    The shades are mixtures with greys, for lines drawn smoothly over a grey picture. More than
    80 colours take the place of the cube, which is for frames in colour.

    Args:
        colors: At most 160 are kept true.

    Returns:
        (256, 3) uint8; the greys come first, evenly from black to white.
    """
    greys = np.linspace(0, 255, _GREYS).round()[:, None].repeat(3, axis=1)
    axes = [np.linspace(0, 255, steps).round() for steps in _CUBE]
    cube = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    wanted = np.asarray(colors[:_COLORS], dtype=float).reshape(-1, 3)
    if len(wanted) > _COLORS - _CUBE_SIZE:
        cube = cube[:0]
    chosen = np.zeros((_COLORS - len(cube), 3))
    each = len(chosen) // max(1, len(wanted))
    mixtures = np.concatenate([_shades(color, each) for color in wanted] or [chosen])
    chosen[: len(mixtures)] = mixtures
    return np.concatenate([greys, cube, chosen]).round().astype(np.uint8)


def to_indices(picture: np.ndarray, lookup: np.ndarray) -> np.ndarray:
    """Turn an RGB picture, (H, W, 3) uint8, into palette indices, (H, W) uint8."""
    # Three times faster than cv2.split and a nonzero of two axes.
    red, green, blue = (cv2.extractChannel(picture, channel) for channel in range(3))
    chroma = cv2.max(cv2.absdiff(red, green), cv2.absdiff(green, blue))
    where = np.flatnonzero(cv2.max(chroma, cv2.absdiff(red, blue)) > _GREY_CHROMA)
    table = (np.arange(256) * (_GREYS - 1) / 255).round().astype(np.uint8)
    indices = np.asarray(cv2.LUT(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), table))
    colored = picture.reshape(-1, 3)[where].astype(np.uint16) >> 3
    places = (colored[:, 0] << 10) | (colored[:, 1] << 5) | colored[:, 2]
    indices.reshape(-1)[where] = lookup[places]
    return indices


def _shades(color: np.ndarray, count: int) -> np.ndarray:
    """Mix a colour with greys: itself first, then `count` - 1 mixtures at most."""
    greys = (count - 1) // 3
    mixtures = [
        weight * color + (1 - weight) * grey
        for weight in (0.75, 0.5, 0.25)
        for grey in np.linspace(0, 200, greys)
    ]
    return np.stack([color, *mixtures])


@functools.lru_cache(maxsize=4)
def _nearest_lookup(palette: bytes, colors: tuple[Color, ...]) -> np.ndarray:
    """Find the nearest palette entry of every colour of 5 bits a channel, (32768,) uint8.

    Where one of `colors` lies it is that one, even if a shade lies nearer to the middle.
    """
    entries = np.frombuffer(palette, np.uint8).reshape(256, 3).astype(np.int32)
    levels = np.arange(32, dtype=np.int32) * 8 + 4
    red, green, blue = ((levels[:, None] - entries[:, axis]) ** 2 for axis in range(3))
    # Plain sums: a matrix product would first wake the threads of the BLAS.
    rest = (green[:, None] + blue[None]).reshape(-1, 256)
    lookup = np.concatenate([(rest + level).argmin(axis=1) for level in red]).astype(np.uint8)
    for color in colors:
        place = (color[0] >> 3) << 10 | (color[1] >> 3) << 5 | color[2] >> 3
        lookup[place] = ((entries - color) ** 2).sum(axis=1).argmin()
    return lookup

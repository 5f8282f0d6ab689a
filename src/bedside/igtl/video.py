"""Bodies of VIDEO messages, as OpenIGTLink 3.1 and later write them."""

import struct
import sys

from bedside.errors import MessageError
from bedside.igtl.messages import Video
from bedside.igtl.places import decode_place, encode_place
from bedside.volume import Geometry, Space

_VIDEO = struct.Struct(">HB4sHB3H12f6H")
_VERSION = 1
_NO_PLACE = (0.0,) * 9


def encode_video(video: Video) -> bytes:
    """The body of a message.

    Raises:
        MessageError: If the protocol has no form for it.
    """
    codec = video.codec.encode()
    grid = (1, *video.shape)
    if not 1 <= len(codec) <= 4 or len(video.shape) != 2 or min(video.shape) < 1:
        raise MessageError(
            f"the video is {video.shape} by {video.codec!r}; expected (H, W) and four letters."
        )
    if not video.is_grey <= video.frame_type <= 0xFF:
        raise MessageError(
            f"the type of the frame is {video.frame_type}; expected 0 to 255, of a grey one from 1."
        )
    if video.geometry is not None and video.geometry.shape != grid:
        raise MessageError(f"the grid is {video.geometry.shape}; expected {grid}.")
    coord, matrix = 1, [*_NO_PLACE, 0.0, 0.0, 0.0]
    if video.geometry is not None:
        coord, matrix = encode_place(video.geometry, video.space)
    head = _VIDEO.pack(
        _VERSION, 2 if sys.byteorder == "little" else 1, codec,
        video.frame_type << 8 if video.is_grey else video.frame_type, coord,
        *grid[::-1], *matrix, 0, 0, 0, *grid[::-1],
    )  # fmt: skip
    return head + video.data


def decode_video(data: memoryview) -> Video:
    """The content of a body.

    Raises:
        MessageError: If it is no VIDEO of one whole frame.
        GeometryError: If its place cannot be trusted.
    """
    version, _, codec, frame_type, coord, *rest = _VIDEO.unpack_from(data)
    grid, offset, part = (tuple(three[::-1]) for three in (rest[:3], rest[15:18], rest[18:21]))
    if version != _VERSION or not codec.isascii():
        raise MessageError(
            f"the video has version {version} and codec {codec!r}; expected {_VERSION} and letters."
        )
    if grid[0] != 1 or min(grid) < 1 or (offset, part) != ((0, 0, 0), grid):
        raise MessageError(
            f"the video is the part at {offset} of {part} of a grid {grid}; expected a whole frame."
        )
    geometry: Geometry | None = None
    space: Space = "LPS"
    if tuple(rest[3:12]) != _NO_PLACE:  # what the reference implementation writes if it is not told
        geometry, space = decode_place(coord, rest[3:15], grid)
    is_grey = frame_type > 0xFF
    return Video(
        bytes(data[_VIDEO.size :]), grid[1:], codec.decode().rstrip("\0"), geometry,
        frame_type >> 8 if is_grey else frame_type, is_grey, space,
    )  # fmt: skip

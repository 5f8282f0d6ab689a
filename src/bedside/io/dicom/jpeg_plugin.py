"""pydicom decoders of JPEG forms whose own plugins need a package under GPL."""

from functools import cache
from typing import Any

import numpy as np
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from bedside.io.dicom.jpeg_12_bit import decode_12_bit_jpeg
from bedside.io.dicom.jpeg_lossless import decode_lossless_jpeg

# Asked for by pydicom: what this module needs, by transfer syntax.
DECODER_DEPENDENCIES: dict[UID, tuple[str, ...]] = {
    JPEGExtended12Bit: (), JPEGLossless: (), JPEGLosslessSV1: (),
}  # fmt: skip
_PILLOW = ("pillow", ("pydicom.pixels.decoders.pillow", "_decode_frame"))
_OURS = ("bedside", (__name__, "_decode_frame"))


@cache
def find_decoder(syntax: UID) -> Any:
    """Return the decoder of a transfer syntax.

    The same one wherever it runs: plugins that happen to be installed take no part in the syntaxes
    of this module.

    Raises:
        NotImplementedError: If pydicom has none.
    """
    if syntax not in DECODER_DEPENDENCIES:
        return get_decoder(syntax)
    decoder = Decoder(syntax)
    decoder.add_plugins([_PILLOW, _OURS] if syntax == JPEGExtended12Bit else [_OURS])
    return decoder


def is_available(syntax: str) -> bool:
    """Whether this module decodes a transfer syntax, for pydicom."""
    return syntax in DECODER_DEPENDENCIES


def _decode_frame(source: bytes, runner: Any) -> bytearray:
    """Decode a frame, for pydicom: pixel by pixel, little endian."""
    shape = runner.rows, runner.columns, runner.samples_per_pixel
    is_lossless = runner.transfer_syntax != JPEGExtended12Bit
    decode = decode_lossless_jpeg if is_lossless else decode_12_bit_jpeg
    pixels = decode(source, shape)
    if runner.bits_allocated == 8 and pixels.max() > np.iinfo(np.uint8).max:
        raise ValueError("it codes values of more than 8 bits")
    runner.set_option("planar_configuration", 0)
    return bytearray(pixels.astype(f"<u{runner.bits_allocated // 8}").tobytes())

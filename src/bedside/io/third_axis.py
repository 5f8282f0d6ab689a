"""The third axis of an image, time or space, as stated by the user."""

from dataclasses import replace
from typing import Literal

from bedside.errors import FormatError
from bedside.io.formats import FORMATS
from bedside.io.opened import Source

ThirdAxis = Literal["auto", "time", "space"]
"""The third axis; "auto" to go by the file and the bundle."""


def state_third_axis(source: Source, axis: ThirdAxis) -> Source:
    """Return an image with the third axis stated by the user.

    Args:
        source: The image; DICOM and pictures define their frames themselves, and get a warning.
        axis: The stated axis.

    Raises:
        FormatError: If the file defines time and the user states space.
    """
    sequence = source.sequence
    if axis == "auto" or len(sequence) == 1:
        return source
    if not FORMATS[source.kind].open_axis:
        text = f'the file says itself what its frames are; --third-axis "{axis}" was not needed'
        return replace(source, sequence=replace(sequence, warnings=(*sequence.warnings, text)))
    if axis == "space" and sequence.third_axis == "time":
        raise FormatError(
            f"{source.path}: its header says that its {len(sequence)} frames follow each other in "
            "time; leave --third-axis space out."
        )
    return replace(source, sequence=replace(sequence, third_axis=axis))

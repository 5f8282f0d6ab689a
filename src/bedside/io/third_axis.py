"""The third axis of an image, time or space, as the user states it where the file does not."""

from dataclasses import replace
from typing import Literal

from bedside.errors import FormatError
from bedside.io.formats import FORMATS
from bedside.io.opened import Source

ThirdAxis = Literal["auto", "time", "space"]
"""What the third axis is; "auto" to go by the file and the bundle."""


def state_third_axis(source: Source, axis: ThirdAxis) -> Source:
    """An image with the third axis that the user states.

    Args:
        source: The image; one of DICOM, and a picture, says itself what its frames are and is
            given back as it is, with a warning.
        axis: What the user says.

    Raises:
        FormatError: If the file says that its frames follow in time, and the user space.
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

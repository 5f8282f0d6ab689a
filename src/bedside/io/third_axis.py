"""What the user says of the third axis of an image, where its file does not: time or space."""

from dataclasses import replace
from typing import Literal

from bedside.errors import FormatError
from bedside.io.source import Source

ThirdAxis = Literal["auto", "time", "space"]
"""What the third axis is; "auto" to go by the file and the bundle."""

_ASKED = ("nifti", "nrrd", "metaimage")


def state_third_axis(source: Source, axis: ThirdAxis) -> Source:
    """Let an image's third axis be what the user says.

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
    if source.kind not in _ASKED:
        text = f'the file says itself what its frames are; --third-axis "{axis}" was not needed'
        return replace(source, sequence=replace(sequence, warnings=(*sequence.warnings, text)))
    if axis == "space" and sequence.third_axis == "time":
        raise FormatError(
            f"{source.path}: its header says that its {len(sequence)} frames follow each other in "
            "time; leave --third-axis space out."
        )
    return replace(source, sequence=replace(sequence, third_axis=axis))

"""How sure a mask is, where a DICOM SEG or SR has a place for it: all of them are free text.

DICOM has no code for a predicted Dice, and a binary mask no place for a probability. What is left
are the description of a segment, the parameters of its algorithm, and the comments of a frame.
"""

from bedside.io.opened import Algorithm
from bedside.spec import DISCLAIMER
from bedside.spec.confidence import Confidences, StructureConfidence


def list_parameters(sure: StructureConfidence | None) -> list[str]:
    """Predicted Dice, its interval and whether to trust it, as parameters of an algorithm.

    Source:
        DICOM PS3.16 TID 4019 (Algorithm Parameters), PS3.3 table 10-19.

    Example:
        >>> list_parameters(StructureConfidence(0.93, 0.9, 0.95, trusted=True))
        ['predicted_dice=0.930', 'predicted_dice_90_percent=0.900 to 0.950', 'trusted=yes']
    """
    if sure is None:
        return []
    return [
        f"predicted_dice={sure.predicted_dice:.3f}",
        f"predicted_dice_90_percent={sure.low:.3f} to {sure.high:.3f}",
        f"trusted={'yes' if sure.trusted else 'no'}",
    ]


def describe_confidence(sure: StructureConfidence) -> str:
    """How sure a mask is, in words.

    Example:
        >>> describe_confidence(StructureConfidence(0.93, 0.9, 0.95, trusted=True))
        'predicted Dice 0.93 (90 % interval 0.90 to 0.95)'
    """
    doubt = "" if sure.trusted else "; not to be trusted"
    span = f"{sure.low:.2f} to {sure.high:.2f}"
    return f"predicted Dice {sure.predicted_dice:.2f} (90 % interval {span}){doubt}"


def describe_segment(name: str, algorithm: Algorithm, *, over_time: bool) -> str:
    """Description of a segment: how sure its mask is, if that is known, and what it is not for.

    Args:
        name: The structure's name.
        algorithm: What drew it.
        over_time: Whether the image has several frames that follow in time.

    Returns:
        Below 1024 characters, as the attribute may have.

    Source:
        Segment Description (0062,0006), DICOM PS3.3 C.8.20.4.1.
    """
    if algorithm.untrained:
        return f"Random weights: it means nothing. {DISCLAIMER}"
    sure = algorithm.confidence.get(name)
    if sure is None:
        return DISCLAIMER
    words = describe_confidence(sure)
    if over_time:
        return f"In the median frame: {words}. {DISCLAIMER}"
    return f"{words[0].upper()}{words[1:]}. {DISCLAIMER}"


def describe_frame(frame: Confidences, names: list[str]) -> str:
    """How sure the masks of a frame are; empty if that is not known.

    Source:
        Frame Comments (0020,9158), DICOM PS3.3 C.7.6.16.2.2.
    """
    return "\n".join(
        f"{name}: {describe_confidence(frame[name])}" for name in names if name in frame
    )


def hash_confidence(algorithm: Algorithm) -> list[str]:
    """What a file's UID follows from beside image, bundle and labels: one UID has one content."""
    every = (algorithm.confidence, *algorithm.frame_confidence)
    return [f"{name} {describe_confidence(one)} {list_parameters(one)}"
            for each in every for name, one in each.items()]  # fmt: skip

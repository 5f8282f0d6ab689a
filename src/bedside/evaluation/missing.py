"""Images that lack channels that a network takes, as sequences of MR that were not acquired."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bedside.spec import InputSpec
from bedside.volume import ImageSequence


def list_subsets(given: InputSpec) -> list[tuple[str, ...]]:
    """Sets of channels that may be missing together, the smallest first; some channel stays.

    Args:
        given: Names of a network's channels, and which of them are optional.

    Example:
        >>> names = ("a", "b")
        >>> list_subsets(InputSpec("MR", 2, (8, 8), channel_names=names, optional_channels=names))
        [(), ('a',), ('b',)]
    """
    optional = given.optional_channels
    sizes = range(min(len(optional), max(0, len(given.channel_names) - 1)) + 1)
    return [missing for size in sizes for missing in itertools.combinations(optional, size)]


def leave_out(sequence: ImageSequence, given: InputSpec, missing: Sequence[str]) -> ImageSequence:
    """Return a sequence whose missing channels are 0, as where a user does not give them."""
    names = given.channel_names
    kept = np.array([name not in missing for name in names])[:, None, None]

    def decode(index: int) -> np.ndarray:
        frame = sequence.decode(index)
        left: np.ndarray = frame * kept.astype(frame.dtype)
        return left

    return replace(sequence, decode=decode) if missing else sequence


def vary_channels(sequence: ImageSequence, given: InputSpec, *, number: int) -> list[ImageSequence]:
    """Return a sequence, and the same without some channels if any may be missing.

    Args:
        sequence: With all channels.
        given: What the network takes.
        number: Of the sequence among several, which lack one set of channels after the other.
    """
    subsets = list_subsets(given)[1:]
    if not subsets:
        return [sequence]
    return [sequence, leave_out(sequence, given, subsets[number % len(subsets)])]

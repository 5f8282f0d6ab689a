"""Images without channels that may be missing, for gates and calibrations."""

import numpy as np

from bedside.evaluation.missing import leave_out, list_subsets, vary_channels
from bedside.spec import InputSpec
from bedside.volume import ImageSequence

NAMES = ("t1", "flair", "t1ce")
THREE = InputSpec("MR", 3, (4, 5), channel_names=NAMES, optional_channels=NAMES)
GREY = InputSpec("MR", 1, (4, 5))


def make_sequence(channels: int = 3) -> ImageSequence:
    frames = np.random.default_rng(0).integers(1, 9, (2, channels, 4, 5)).astype(np.int16)
    return ImageSequence(frames.shape, frames.__getitem__)


def test_all_sets_of_channels_that_leave_one_are_listed():
    assert list_subsets(THREE) == [
        (), ("t1",), ("flair",), ("t1ce",), ("t1", "flair"), ("t1", "t1ce"), ("flair", "t1ce"),
    ]  # fmt: skip
    one = InputSpec("MR", 2, (4, 5), channel_names=NAMES[:2], optional_channels=("t1",))
    assert list_subsets(one) == [(), ("t1",)]
    assert list_subsets(GREY) == [()]


def test_what_is_left_out_is_0_and_the_rest_as_it_was():
    sequence = make_sequence()
    frame = leave_out(sequence, THREE, ("t1", "t1ce")).decode(1)
    assert not frame[[0, 2]].any()
    assert np.array_equal(frame[1], sequence.decode(1)[1])
    assert frame.dtype == np.int16
    assert leave_out(sequence, THREE, ()) is sequence


def test_cases_lack_one_set_after_the_other_and_none_where_all_must_be_there():
    sequence = make_sequence()
    lost = set()
    for number in range(6):
        whole, lacking = vary_channels(sequence, THREE, number=number)
        assert whole is sequence
        lost.add(tuple(lacking.decode(0).any(axis=(1, 2)).tolist()))
    assert len(lost) == 6
    grey = make_sequence(1)
    assert vary_channels(grey, GREY, number=0) == [grey]

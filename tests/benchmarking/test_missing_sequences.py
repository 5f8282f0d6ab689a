from types import SimpleNamespace

import numpy as np

import missing_sequences as study
from bedside.volume import ImageSequence


def test_all_sets_of_sequences_that_leave_one_are_scored():
    assert study.list_subsets(("t1", "flair", "t1ce"), ("t1", "flair", "t1ce")) == [
        (), ("t1",), ("flair",), ("t1ce",), ("t1", "flair"), ("t1", "t1ce"), ("flair", "t1ce"),
    ]  # fmt: skip
    assert study.list_subsets(("t1", "flair"), ("t1",)) == [(), ("t1",)]


def test_what_is_missing_is_0_and_the_rest_as_it_was():
    seen = []
    segmenter = SimpleNamespace(
        spec=SimpleNamespace(input=SimpleNamespace(channel_names=("t1", "flair"))),
        segment_sequence=lambda sequence, **settings: seen.append((sequence.decode(1), settings)),
        kind="frames",
    )
    frames = np.random.default_rng(0).integers(1, 9, (3, 2, 4, 5)).astype(np.int16)
    sequence = ImageSequence((3, 2, 4, 5), frames.__getitem__)
    lacking = study.Lacking(segmenter, ("t1",))
    lacking.segment_sequence(sequence, force=True)
    frame, settings = seen[0]
    assert not frame[0].any()
    assert np.array_equal(frame[1], frames[1, 1])
    assert frame.dtype == np.int16
    assert settings == {"force": True}
    assert lacking.kind == "frames"


def test_differences_are_paired_by_patient():
    rows = [
        {"missing": [], "dice": {"a": 0.9, "b": 0.5}},
        {"missing": ["t1"], "dice": {"a": 0.8, "b": 0.5}},
    ]
    record = {"bundle": "x 1.0", "data": "y", "part": "val", "note": "", "rows": rows}
    lines = study.format_page(record).splitlines()
    assert [cell.strip() for cell in lines[-1].split("|")[1:-1]] == [
        "t1",
        "0.650",
        "-0.050",
        "0.500",
    ]
    assert "2 val patients" in lines[2]

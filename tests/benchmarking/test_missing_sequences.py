from types import SimpleNamespace

import numpy as np

import missing_sequences as study
from bedside.spec import InputSpec
from bedside.volume import ImageSequence

NAMES = ("t1", "flair", "t1ce")


def test_what_is_missing_is_0_and_the_result_is_remembered():
    seen = []

    def segment(sequence, **settings):
        seen.append((sequence.decode(1), settings))
        return "a mask"

    given = InputSpec("MR", 2, (4, 5), channel_names=NAMES[:2], optional_channels=NAMES[:2])
    segmenter = SimpleNamespace(
        spec=SimpleNamespace(input=given), segment_sequence=segment, kind="frames"
    )
    frames = np.random.default_rng(0).integers(1, 9, (3, 2, 4, 5)).astype(np.int16)
    sequence = ImageSequence((3, 2, 4, 5), frames.__getitem__)
    lacking = study.Lacking(segmenter, ("t1",))
    lacking.segment_sequence(sequence, force=True)
    frame, settings = seen[0]
    assert not frame[0].any()
    assert np.array_equal(frame[1], frames[1, 1])
    assert settings == {"force": True}
    assert lacking.kind == "frames"
    assert lacking.found == ["a mask"]


def test_brightness_separates_by_pairs_whichever_is_brighter():
    inside, around = np.zeros(8), np.zeros(8)
    inside[[2, 5]] = 1, 3
    around[[2, 4]] = 2, 2
    # Of 16 pairs 12 have 5 above 2 or 4, 2 are equal, and 2 have 2 below 4.
    assert study.find_separation(inside, around) == 13 / 16
    assert study.find_separation(around, inside) == 13 / 16
    assert study.find_separation(inside, inside) == 0.5


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


def test_what_users_are_told_stands_beside_the_dice():
    told = {"drawn": True, "predicted": 0.6, "trusted": False, "odd": True}
    fine = {"drawn": True, "predicted": 0.8, "trusted": True, "odd": False}
    rows = [{"missing": [], "dice": {"a": 0.9, "b": 0.5}, "told": {"a": fine, "b": told}}]
    contrasts = {"t1": {"c": 0.7, "d": 0.9}}
    record = {"bundle": "x 1.0", "data": "y", "part": "val", "note": "", "rows": rows}
    lines = study.format_page({**record, "contrasts": contrasts}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert ["none", "0.700", "", "0.500", "0.700", "1 of 2", "1 of 2"] in cells
    assert ["t1", "0.800", "0.700"] in cells

"""The page drops a scale beside its region, and names frames of another view, as Python does."""

import json
from types import SimpleNamespace

import numpy as np

from bedside.pipeline.scaled_region import describe_beside
from bedside.pipeline.segmenter import Segmenter
from bedside.volume import Box
from page_makers import run_node

STRUCTURES = (SimpleNamespace(name="left", value=1), SimpleNamespace(name="right", value=2))
REGION = Box(top=0, left=0, bottom=20, right=30)
BOX = {"top": 0, "left": 0, "bottom": 20, "right": 30}
NAMED = [{"name": each.name, "value": each.value} for each in STRUCTURES]


def draw(*boxes):
    """Two frames of labels, (2, 24, 40); each box is (value, frame, rows, columns)."""
    labels = np.zeros((2, 24, 40), np.uint8)
    for value, frame, rows, columns in boxes:
        labels[frame, slice(*rows), slice(*columns)] = value
    return labels


def run_page(tmp_path, *, scales=(), films=()):
    path = tmp_path / "case.json"
    path.write_text(json.dumps({"scales": scales, "films": films}))
    return run_node("beside.mjs", path)


def test_the_scale_is_dropped_where_python_drops_it_in_its_words(tmp_path):
    drawn = [
        draw(),
        draw((1, 0, (2, 12), (5, 20))),
        draw((1, 0, (2, 12), (5, 20)), (2, 1, (2, 12), (31, 38))),
        draw((1, 0, (2, 12), (25, 36)), (2, 1, (15, 24), (2, 9))),
        # 1 of 100 pixels is the edge of a sector, and 3 of 100 are not.
        draw((1, 0, (2, 11), (4, 15)), (1, 1, (20, 21), (4, 5))),
        draw((1, 0, (2, 11), (4, 14)), (1, 1, (20, 21), (4, 7))),
    ]
    wanted = [describe_beside(labels, REGION, STRUCTURES) for labels in drawn]
    assert [bool(text) for text in wanted] == [False, False, True, True, False, True]
    scales = [
        {
            "frames": labels.reshape(2, -1).tolist(),
            "width": 40,
            "region": BOX,
            "structures": NAMED,
        }
        for labels in drawn
    ]
    for found, text in zip(run_page(tmp_path, scales=scales)["described"], wanted, strict=True):
        assert found["counted"] == found["warning"] == text
        assert found["spacingMm"] == (None if text else [0.2, 0.4])
        assert found["pixelAspect"] == (0.5 if text else None)
        assert found["byHand"] == [1, 1]


def test_a_run_names_frames_of_another_view_and_ends_without_the_scale(tmp_path):
    far, labels = [0, 0, 2, 0, 0], draw((1, 1, (2, 12), (31, 38)))
    shown = [{"data": labels[0].ravel().tolist(), "width": 40}] * 4
    beside = {"data": labels[1].ravel().tolist(), "width": 40}
    film = {
        "source": {"kind": "cine", "count": 5, "region": BOX, "spacingMm": [1, 1]},
        "spec": {"labels": NAMED, "input": {"modality": "US"}},
        "labels": [*shown, beside],
        "distances": far,
        "madeFor": "a view",
    }
    slices = {**film, "spec": {**film["spec"], "input": {"modality": "MR"}}, "labels": shown * 2}
    own = {**film, "distances": [0] * 5}
    ran = run_page(tmp_path, films=[film, slices, own])["ran"]
    spec = SimpleNamespace(input=SimpleNamespace(view="a view"), task="")
    found = SimpleNamespace(foreign_frames=(2,), labels=SimpleNamespace(array=np.zeros((5, 1, 1))))
    (foreign,) = Segmenter._describe_foreign(SimpleNamespace(spec=spec), found)
    assert foreign.startswith("1 of 5 frames that were judged (3, counted from 1) looks unlike")
    scale = describe_beside(labels, REGION, STRUCTURES)
    assert ran[0] == {"notes": [foreign, "planned", scale], "foreign": True, "spacingMm": None}
    assert ran[1] == {"notes": ["planned"], "foreign": False, "spacingMm": [1, 1]}
    assert ran[2] == {"notes": ["planned", scale], "foreign": False, "spacingMm": None}

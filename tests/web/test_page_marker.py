"""The page finds mirrored views as Python does."""

import json

import numpy as np
import pytest

from bedside.pipeline.frames.marker import find_certainty
from bedside.pipeline.segmenter import Segmenter
from bedside.spec import to_mapping
from page_makers import run_node
from sided_network import SPEC, Sided, make_film, make_lopsided_film


@pytest.mark.parametrize(
    ("film", "mirrored"),
    [(make_film(), False), (make_film(mirrored=True), True), (make_lopsided_film(), False)],
    ids=["upright", "mirrored", "lopsided"],
)
def test_a_mirrored_view_is_turned_on_the_page_too(film, mirrored, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(to_mapping(SPEC)))
    np.concatenate(list(film)).tofile(tmp_path / "film.raw")
    found = run_node("marker.mjs", tmp_path / "spec.json", tmp_path / "film.raw", 80, 64)
    segmenter = Segmenter(SPEC, Sided())
    wanted = segmenter.segment_sequence(film)
    assert found["mirrored"] == mirrored
    assert found["warnings"] == list(wanted.warnings)
    assert found["labels"] == wanted.labels.array.ravel().tolist()
    tensor = segmenter.plan(film).apply(film.decode(0))
    certainty = find_certainty(Sided().predict(tensor)[0])
    assert found["certainty"] == pytest.approx(certainty, abs=1e-6)

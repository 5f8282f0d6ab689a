"""Real data, where it is there: every CAMUS image opens, and its labels go back unchanged."""

import os
from pathlib import Path

import numpy as np
import pytest

from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from makers import LABELS

BESIDE = Path(__file__).parents[2].parent / "shared" / "data"
DATA = Path(os.environ.get("BEDSIDE_DATA", BESIDE))

pytestmark = pytest.mark.skipif(
    not (DATA / "camus").is_dir(), reason="set BEDSIDE_DATA to a folder with camus in it"
)


def test_camus_images_open_and_their_labels_go_back_on_their_grid(tmp_path):
    truths = sorted((DATA / "camus").glob("*/*_gt.nii.gz"))[:6]
    assert truths
    for truth in truths:
        image = open_source(Path(str(truth).replace("_gt", "")))
        source = open_source(truth)
        assert image.sequence.shape == source.sequence.shape
        assert image.sequence.spacing_mm == pytest.approx((0.616, 0.616))
        target = write_labels(
            LabelMap(source.sequence.decode(0)),
            image,
            tmp_path / truth.name,
            labels_spec=LABELS,
            algorithm=Algorithm("a", "1", "0"),
            format="nifti",
        )
        again = open_source(target)
        assert np.array_equal(again.sequence.decode(0), source.sequence.decode(0))
        assert np.array_equal(again.header.affine, image.header.affine)

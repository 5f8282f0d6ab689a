"""The page tells how far masks are to be trusted as Python does."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.evaluation.generated import make_samples
from bedside.pipeline.confidence import ConfidenceEstimator, describe_frame
from bedside.pipeline.segmenter import open_segmenter
from bedside.spec import to_mapping
from page_makers import run_node


def settings_of(spec, logits):
    height, width = spec.input.size_px
    return {
        "channels": spec.input.channels, "height": height, "width": width,
        "classes": spec.model.num_classes, "stride": height // logits.shape[1],
        "structures": [label.name for label in spec.labels],
    }  # fmt: skip


def make_pairs(bundle):
    """Tensors and logits: of a generated frame, of it cut and blurred, and of noise."""
    spec = bundle.spec
    segmenter = open_segmenter(bundle, precision="f32", threads=1)
    sequence = next(make_samples(spec, count=1)).sequence
    tensor = segmenter.plan(sequence).apply(sequence.decode(0)).astype(np.float32)
    random = np.random.default_rng(3)
    cut = tensor.copy()
    cut[..., : tensor.shape[-1] // 2] = 0
    noise = random.random(tensor.shape, np.float32)
    pairs = [(each, segmenter.session.predict(each)[0].copy()) for each in (tensor, cut, noise)]
    # Blobs of every class, unsure at their borders.
    logits = random.normal(0, 1, pairs[0][1].shape).astype(np.float32)
    return [*pairs, (noise, 2 * logits + np.roll(logits, 1, -1))]


@pytest.mark.parametrize("name", ["camus-4ch", "hc18-head"])
def test_predictions_of_the_page_are_those_of_python(name, tmp_path):
    bundle = read_bundle(find_bundle(name))
    structures = [label.name for label in bundle.spec.labels]
    estimator, paths, wanted = ConfidenceEstimator(bundle.confidence, structures), [], []
    pairs = make_pairs(bundle)
    for number, (tensor, logits) in enumerate(pairs):
        wanted.append(estimator.assess(describe_frame(tensor[0], logits)))
        paths.append([str(tmp_path / f"{kind}{number}.raw") for kind in ("tensor", "logits")])
        for path, values in zip(paths[-1], (tensor, logits), strict=True):
            values.astype(np.float32).tofile(path)
    case = {
        "confidence": to_mapping(bundle.confidence),
        "settings": settings_of(bundle.spec, pairs[0][1]),
        "pairs": paths,
    }
    (tmp_path / "case.json").write_text(json.dumps(case))
    found = run_node("confidence.mjs", tmp_path / "case.json")["found"]
    assert any(wanted)
    for page, python in zip(found, wanted, strict=True):
        assert list(page) == list(python)
        for structure, sure in python.items():
            numbers = [page[structure][key] for key in ("predicted_dice", "low", "high")]
            expected = [sure.predicted_dice, sure.low, sure.high]
            assert numbers == pytest.approx(expected, abs=1e-3)
            assert page[structure]["trusted"] == sure.trusted
    assert len({sure.predicted_dice for each in wanted for sure in each.values()}) > 1


def test_a_confidence_that_the_page_cannot_work_out_is_told(tmp_path):
    bundle = read_bundle(find_bundle("camus-4ch"))
    first, *others = bundle.confidence.frames
    features = ("smell", *first.features[1:])
    confidence = replace(bundle.confidence, frames=(replace(first, features=features), *others))
    case = {"spec": to_mapping(bundle.spec), "gate": None, "confidence": to_mapping(confidence)}
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert run_node("untold.mjs", tmp_path / "case.json") == [
        'the confidence of camus-4ch is not worked out on this device: it has the feature "smell", '
        "which the page does not know. How far masks are to be trusted is not told"
    ]

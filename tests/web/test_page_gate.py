"""The page judges images by a bundle's gate as Python does."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.evaluation.generated import make_samples
from bedside.pipeline.gate import GateJudge, choose_frames, explain, median_verdict
from bedside.pipeline.gate_views import describe
from bedside.pipeline.segmenter import open_segmenter
from bedside.spec import to_mapping
from bedside.spec.gate import VERSION, Gate, GateContrast, GateView
from page_makers import run_node

COUNTS = [1, 3, 7, 8, 30, 101]


def settings_of(spec):
    height, width = spec.input.size_px
    return {
        "channels": spec.input.channels,
        "height": height,
        "width": width,
        "classes": spec.model.num_classes,
        "stride": spec.model.logit_stride,
        "madeFor": spec.input.view or spec.task,
    }


def make_gate(tensor, logits):
    """A gate near one image, for networks that have none."""
    views = tuple(
        GateView(
            name, mean=tuple(mean + 0.05), scale=(0.1,) * mean.size,
            axes=(tuple(np.eye(mean.size)[0]),), spread=(1.0,), residual=1.0, far_along=1.0,
            far_beside=1.0,
        )
        for name, mean in describe(tensor, logits).items()
    )  # fmt: skip
    weights = tuple(tuple(np.resize((0.5, -0.25), len(view.mean))) for view in views)
    contrast = GateContrast(weights, bias=0.5, far=0.25, spread=0.5, images=3)
    return Gate(views, threshold=1.0, images=1, contrast=contrast, version=VERSION)


@pytest.mark.parametrize("name", ["camus-4ch", "hc18-head", "lidc-nodule", "vocal-folds"])
def test_verdicts_of_the_page_are_those_of_python(name, tmp_path):
    bundle = read_bundle(find_bundle(name))
    spec, gate = bundle.spec, bundle.gate
    segmenter = open_segmenter(bundle, precision="f32", threads=1)
    sequence = next(make_samples(spec, count=1)).sequence
    shape = (1, spec.input.channels, *spec.input.size_px)
    random = np.random.default_rng(7)
    tensors = [
        segmenter.plan(sequence).apply(sequence.decode(0)),
        random.random(shape, np.float32),
        np.zeros(shape, np.float32),
        np.sort(random.random(shape, np.float32), axis=-1) * 1.1,
    ]
    if gate is None or name == "lidc-nodule":
        gate = make_gate(tensors[0][0], segmenter.session.predict(tensors[0])[0])
    judge, wanted, pairs = GateJudge(gate), [], []
    for number, tensor in enumerate(tensors):
        logits = segmenter.session.predict(tensor)
        paths = [str(tmp_path / f"{kind}{number}.raw") for kind in ("tensor", "logits")]
        for path, values in zip(paths, (tensor, logits), strict=True):
            values.astype(np.float32).tofile(path)
        wanted.append(judge.judge(tensor[0], logits[0]))
        pairs.append(paths)
    case = {
        "gate": to_mapping(gate),
        "settings": settings_of(spec),
        "pairs": pairs,
        "counts": COUNTS,
    }
    (tmp_path / "case.json").write_text(json.dumps(case))
    found = run_node("gate.mjs", tmp_path / "case.json")
    assert [each["view"] for each in found["verdicts"]] == [each.view for each in wanted]
    distances = [each["distance"] for each in found["verdicts"]]
    assert distances == pytest.approx([each.distance for each in wanted], rel=1e-4)
    assert found["median"]["distance"] == pytest.approx(median_verdict(wanted).distance, rel=1e-4)
    assert found["judged"] == [list(choose_frames(count)) for count in COUNTS]
    made_for = spec.input.view or spec.task
    for text, verdict in zip(found["texts"], wanted, strict=True):
        foreign = verdict.distance > gate.threshold
        said = f"{explain(gate, verdict, made_for=made_for)}; do not rely on its labels."
        assert text == (said if foreign else None)
    assert any(found["texts"])


def test_a_gate_that_the_page_cannot_work_out_is_told(tmp_path):
    bundle = read_bundle(find_bundle("camus-4ch"))
    view = replace(bundle.gate.views[0], name="smell")
    gate = replace(bundle.gate, views=(view, *bundle.gate.views[1:]))
    case = {"spec": to_mapping(bundle.spec), "gate": to_mapping(gate)}
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert run_node("untold.mjs", tmp_path / "case.json") == [
        'the gate of camus-4ch is not worked out on this device: it has the view "smell", which '
        "the page does not know. Foreign images are not told"
    ]

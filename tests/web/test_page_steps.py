"""The page's pipeline beside Python's, step by step, in node: every number is the same."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.demo import find_cine
from bedside.evaluation.generated import make_samples
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import SAMPLE_FRAMES
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.report.own_measurements import measure_structure
from bedside.spec import DropSmall, FitEllipse, KeepLargest
from bedside.volume import ImageSequence, LabelMap
from bedside.web.model_files import POSTPROCESS, PREPROCESS
from makers import FRAME_SIZES
from page_makers import list_differing, make_case, run_steps

NAMES = ("camus-4ch", "hc18-head", "lidc-nodule", "vocal-folds")
DATA = Path(os.environ.get("BEDSIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def segmenters():
    """The shipped bundles in f32, each opened once."""
    opened = {}

    def open_once(name):
        if name not in opened:
            bundle = read_bundle(find_bundle(name))
            found = open_segmenter(bundle, precision="f32", threads=1)
            # The steps are compared on frames as they are; test_page_marker.py turns them.
            opened[name] = Segmenter(replace(bundle.spec, marker=None), found.session)
        return opened[name]

    return open_once


def check_cases(cases, folder):
    """Every step of every case is Python's, and so are the rectangles, warnings and edits."""
    found = run_steps(cases, folder)
    for (case, wanted), result in zip(cases, found["results"], strict=True):
        assert "error" not in result, result["error"]
        differing = list_differing(case, wanted)
        assert not any(differing.values()), (case["out"], differing)
        transform = wanted["plan"].transform
        for name in ("box", "inner"):
            box = getattr(transform, name)
            assert result["transform"][name] == {
                "top": box.top, "left": box.left, "bottom": box.bottom, "right": box.right
            }  # fmt: skip
        assert result["warnings"] == list(wanted["plan"].warnings)
        ours = [(e["step"], e["value"], e["components"], e["pixels"]) for e in result["edits"]]
        edits = wanted["result"].edits
        assert ours == [(e.step, e.labels[0], e.parts, e.pixels) for e in edits]
        labels = LabelMap(wanted["result"].labels[None], case["spacing_mm"])
        own = [measure_structure(labels, each) for each in wanted["structures"]]
        lengths = [value for each in own for (value,) in each.values() if value is not None]
        assert [value for _, value in result["own"]] == pytest.approx(lengths, abs=0.01)
    return found


def make_noise(shape, *, seed=0, dtype=np.uint8, most=256):
    values = np.random.default_rng(seed).integers(0, most, (1, *shape)).astype(dtype)
    return ImageSequence(shape=(1, *values.shape), decode=lambda index: values.copy())


def test_each_step_of_every_bundle_that_the_page_runs(segmenters, tmp_path):
    cases = []
    for name in NAMES:
        sequence = next(make_samples(segmenters(name).spec)).sequence
        cases.append(make_case(segmenters(name), sequence, tmp_path / name))
    found = check_cases(cases, tmp_path)
    assert all(wanted["result"].labels.any() for _, wanted in cases)
    assert found["steps"] == {
        "preprocess": list(PREPROCESS), "refine": [], "postprocess": list(POSTPROCESS), "priors": []
    }  # fmt: skip
    assert found["sample_frames"] == SAMPLE_FRAMES


def test_pixels_that_are_not_square_are_shown_in_their_true_shape(segmenters, tmp_path):
    sequence = next(make_samples(segmenters("camus-4ch").spec)).sequence
    cases = [
        make_case(
            segmenters("camus-4ch"), replace(sequence, spacing_mm=spacing_mm), tmp_path / name
        )
        for name, spacing_mm in (
            ("low", (0.2, 0.5)), ("high", (0.77, 0.31)), ("square", (0.3, 0.301))
        )
    ]  # fmt: skip
    found = check_cases(cases, tmp_path)
    told = ["times as wide" in "".join(each["warnings"]) for each in found["results"]]
    assert told == [True, False, False]
    inner = [each["transform"]["inner"] for each in found["results"]]
    heights = [box["bottom"] - box["top"] for box in inner]
    assert heights[0] < heights[2]


def test_a_head_is_measured_as_in_the_report(segmenters, tmp_path):
    segmenter = segmenters("hc18-head")
    sequence = replace(next(make_samples(segmenter.spec)).sequence, spacing_mm=(0.3, 0.25))
    cases = [make_case(segmenter, sequence, tmp_path / "case")]
    found = check_cases(cases, tmp_path)
    assert [name for name, _ in found["results"][0]["own"]] == [
        "head circumference", "head long axis", "head short axis"
    ]  # fmt: skip


def test_the_sector_of_a_colour_cine_with_marks_beside_it(segmenters, tmp_path):
    cine = open_source(find_cine()).sequence
    cases = [make_case(segmenters("camus-4ch"), cine, tmp_path / "cine", index=29)]
    check_cases(cases, tmp_path)
    assert cases[0][1]["plan"].transform.box.top > 0


def test_the_resize_is_the_same_at_any_ratio(segmenters, tmp_path):
    cases = [
        make_case(segmenters("hc18-head"), make_noise(size), tmp_path / name.replace(" ", "-"))
        for name, size in FRAME_SIZES.items()
    ]
    check_cases(cases, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "most"), [("uint16", 1000), ("uint16", 40000), ("int16", 200), ("float32", 256)]
)
def test_stored_values_become_the_same_8_bits(segmenters, tmp_path, dtype, most):
    noise = make_noise((200, 260), dtype=dtype, most=most)
    check_cases([make_case(segmenters("hc18-head"), noise, tmp_path / "case")], tmp_path)


def test_repairs_of_speckled_labels_are_the_same(segmenters, tmp_path):
    """Logits of noise have hundreds of pieces and holes."""
    segmenter = segmenters("camus-4ch")
    steps = (*segmenter.spec.postprocess, DropSmall(min_px=40))
    orders = {"as shipped": steps, "small ones first": steps[::-1]}
    cases = []
    for number, (name, postprocess) in enumerate(orders.items()):
        spec = replace(segmenter.spec, postprocess=postprocess)
        noisy = Segmenter(spec, _Noise(segmenter.session, seed=number))
        sequence = next(make_samples(spec)).sequence
        cases.append(make_case(noisy, sequence, tmp_path / name.replace(" ", "-")))
    check_cases(cases, tmp_path)
    assert all(wanted["result"].edits for _, wanted in cases)


def test_the_ellipse_of_a_spoilt_head_is_the_same(segmenters, tmp_path):
    """Heads with dents and bulges, one of which leaves the picture; and noise, which is none."""
    cases = []
    steps = (KeepLargest(), FitEllipse())
    for number, centre in enumerate([(48, 64), (40, 110), (44.7, 61.2)]):
        head = Segmenter(
            replace(segmenters("hc18-head").spec, postprocess=steps),
            _Head(segmenters("hc18-head").session, seed=number, centre=centre),
        )
        cases.append(make_case(head, make_noise((200, 260)), tmp_path / f"head{number}"))
    noisy = replace(segmenters("camus-4ch").spec, postprocess=steps)
    noise = Segmenter(noisy, _Noise(segmenters("camus-4ch").session, seed=1))
    cases.append(make_case(noise, next(make_samples(noisy)).sequence, tmp_path / "noise"))
    check_cases(cases, tmp_path)
    actions = [{edit.action for edit in wanted["result"].edits} for _, wanted in cases]
    assert actions[:3] == [{"added", "removed"}] * 3
    assert "skipped" in actions[3]


class _Head:
    """A network whose logits draw an ellipse with a bulge, a dent and a rough edge."""

    def __init__(self, session, *, seed, centre):
        self.backend, self.precision = session.backend, session.precision
        rows, columns = np.indices((96, 128))
        y, x = rows - centre[0], columns - centre[1]
        level = 1.2 - (x / 40) ** 2 - (y / 28) ** 2 - x * y / 4000
        level += 0.8 * np.exp(-((x - 30) ** 2 + (y + 22) ** 2) / 60)
        level -= 2.0 * np.exp(-((x + 30) ** 2 + (y - 18) ** 2) / 30)
        level += np.random.default_rng(seed).normal(scale=0.03, size=level.shape)
        self._logits = np.stack([np.zeros_like(level), level])[None].astype(np.float32)

    def predict(self, tensor, out=None):
        if out is None:
            return self._logits.copy()
        out[...] = self._logits
        return out


class _Noise:
    """A network whose logits are smooth noise, the same each time."""

    def __init__(self, session, *, seed):
        self.backend, self.precision = session.backend, session.precision
        self._seed = seed

    def predict(self, tensor, out=None):
        coarse = np.random.default_rng(self._seed).normal(size=(1, 4, 64, 64))
        logits = coarse.repeat(2, axis=2).repeat(2, axis=3).astype(np.float32)
        if out is None:
            return logits
        out[...] = logits
        return out


def test_what_the_pipeline_refuses_the_page_refuses(segmenters, tmp_path):
    segmenter = segmenters("camus-4ch")
    sequence = next(make_samples(segmenter.spec)).sequence
    case, _ = make_case(segmenter, sequence, tmp_path / "case")
    spec = case["spec"]
    clahe = {"step": "clahe", "clip": 2.0, "tiles": 8}
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    colour.tofile(tmp_path / "colour.raw")
    photograph = {
        "width": 64,
        "height": 64,
        "channels": 3,
        "frames": [str(tmp_path / "colour.raw")],
    }
    bad = [
        case | {"spec": spec | {"preprocess": [*spec["preprocess"], clahe]}},
        case | {"spec": spec | {"priors": [{"step": "size"}]}},
        case | {"spec": spec | {"input": spec["input"] | {"neighbours": 1}}},
        case | {"spec": spec | {"model": spec["model"] | {"spatial_dims": 3}}},
        case | photograph | {"index": 0},
    ]
    errors = [
        each["error"] for each in run_steps([(each, None) for each in bad], tmp_path)["results"]
    ]
    expected = ['the step "clahe"', 'the step "size"', "neighbours", "whole scans", "photograph"]
    assert [text in error for text, error in zip(expected, errors, strict=True)] == [True] * 5


def test_frames_of_patients(segmenters, tmp_path):
    cases = []
    for name, pattern in (
        ("camus-4ch", "camus/patient000[1-9]/*_4CH_E?.nii.gz"),
        ("hc18-head", "hc18/**/*_HC.png"),
        ("vocal-folds", "vocalfolds/**/*.png"),
    ):
        for path in sorted(DATA.glob(pattern))[:6]:
            sequence = replace(open_source(path).sequence, spacing_mm=(0.2, 0.2))
            cases.append(make_case(segmenters(name), sequence, tmp_path / f"{name}-{path.name}"))
    if not cases:
        pytest.skip(f"NOT TESTED: the page's pipeline on patients; {DATA} is not here.")
    check_cases(cases, tmp_path)

"""Descriptions of a gate, worked out by hand as the bundle format defines them."""

import cv2
import numpy as np
import pytest

from bedside.pipeline.coarse import average_cells
from bedside.pipeline.gate import GateJudge, split_distance
from bedside.pipeline.gate_views import VIEW_NAMES, describe
from bedside.spec.gate import Gate, GateContrast, GateView

CHANGES = np.ceil(255 * (np.arange(10) / 10) ** 2).astype(int)


def cells(plane, side):
    """Mean over side x side cells of a plane that they divide."""
    height, width = plane.shape
    return plane.reshape(side, height // side, side, width // side).mean(axis=(1, 3)).ravel()


def test_the_views_are_those_that_the_bundle_format_defines():
    random = np.random.default_rng(4)
    image = random.random((1, 48, 48), dtype=np.float32)
    logits = random.normal(size=(3, 32, 32)).astype(np.float32)
    found = describe(image, logits)
    chances = np.exp(logits) / np.exp(logits).sum(axis=0)
    surest = chances.max(axis=0)
    coarse = cv2.resize(image[0], (32, 32), interpolation=cv2.INTER_AREA)
    grey = np.rint(255 * image[0]).astype(int)
    rows, below = grey[:-1], grey[1:]
    changes = [abs(below - rows), *(abs(rows[:, step:] - rows[:, :-step]) for step in (1, 2, 4))]
    # Bins of brightness are even, and of the roots of changes.
    edges = [np.arange(0, 257, 16), *4 * [np.array([*CHANGES, 256])]]
    counts = [
        np.histogram(plane, bins)[0] / plane.size
        for plane, bins in zip((rows, *changes), edges, strict=True)
    ]
    wanted = {
        "outlines": np.concatenate([cells(chances[1], 8), cells(chances[2], 8)]),
        "thumbnail": cv2.resize(coarse, (12, 12), interpolation=cv2.INTER_AREA).ravel(),
        "texture": cv2.resize(
            changes[0].astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA
        ).ravel() / 255,
        "grain": np.sqrt(np.concatenate(counts)),
        "figures": [
            1 - (chances**2).sum(axis=0).mean(), surest.mean(), (surest < 0.8).mean(),
            *chances[1:].mean(axis=(1, 2)), (coarse < 0.02).mean(), coarse.mean(), coarse.std(),
        ],
    }  # fmt: skip
    assert list(found) == list(VIEW_NAMES) == list(wanted)
    for name, vector in wanted.items():
        np.testing.assert_allclose(found[name], vector, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (21, 33), (9, 64), (10, 10)])
def test_cells_are_averaged_as_opencv_does(shape):
    planes = np.random.default_rng(2).random((3, *shape), dtype=np.float32)
    for side in (8, 12):
        wanted = [cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in planes]
        found = average_cells(planes, side)
        np.testing.assert_allclose(found, np.stack(wanted).ravel(), atol=2e-6)


def make_view(name, size, axes, random):
    """A view with orthonormal axes."""
    rows = np.linalg.qr(random.normal(size=(size, axes)))[0].T
    return GateView(
        name, tuple(random.normal(size=size)), tuple(random.uniform(0.5, 2, size)),
        tuple(map(tuple, rows)), tuple(random.uniform(1, 4, axes)),
        residual=float(random.uniform(1, 3)), far_along=1.7, far_beside=2.3,
    )  # fmt: skip


def test_a_verdict_is_the_farthest_of_all_views_worked_out_one_by_one():
    random = np.random.default_rng(8)
    sizes = {"outlines": (64, 8), "grain": (56, 5), "figures": (7, 1)}
    views = [make_view(name, *numbers, random) for name, numbers in sizes.items()]
    weights = tuple(tuple(random.normal(size=size)) for size, _ in sizes.values())
    contrast = GateContrast(weights, bias=0.3, far=6.0, spread=4.0, images=10)
    judge, farthest = GateJudge(Gate(tuple(views), 1.5, 10, contrast=contrast, version=2)), set()
    for strength in (0.3, 1, 3):
        for _ in range(20):
            described = {
                name: strength * random.normal(size=size) * random.choice([1, 4])
                for name, (size, _) in sizes.items()
            }
            wanted, score = {}, contrast.bias
            for view, row in zip(views, weights, strict=True):
                numbers = {key: np.array(getattr(view, key)) for key in ("mean", "scale", "axes")}
                along, beside = split_distance(described[view.name][None], **numbers)
                inside = (along[0] ** 2 / view.spread).mean() / view.far_along
                outside = beside[0] / view.residual / view.far_beside
                wanted[view.name] = max(inside, outside) ** 0.5
                scaled = (described[view.name] - numbers["mean"]) / numbers["scale"]
                score += np.dot(row, scaled.clip(-6, 6))
            wanted["contrast"] = max(0, 1 + (score - contrast.far) / contrast.spread)
            found = judge.judge_described(described)
            assert found.view == max(wanted, key=wanted.get)
            assert found.distance == pytest.approx(wanted[found.view], rel=1e-9)
            farthest.add(found.view)
    assert len(farthest) >= 3

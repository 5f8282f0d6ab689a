"""Descriptions of a gate, worked out by hand as the bundle format defines them."""

import cv2
import numpy as np

from bedside.pipeline.gate import VIEW_NAMES, describe

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

"""Calibration images for quantization."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from bedside.datasets import Case
from bedside.spec import DeploymentSpec
from bedside.training.dataset import load_cases
from bedside.training.patches import cut_middle

Item = TypeVar("Item")


def draw_calibration(
    cases: Sequence[Case], spec: DeploymentSpec, *, count: int
) -> list[np.ndarray]:
    """Calibration images, evenly over cases and frames, as network inputs.

    Args:
        cases: Cases that training has seen.
        spec: The deployment, for its preprocessing and the size of its input.
        count: Images at most.

    Returns:
        Tensors (1, C, *S) float32.
    """
    examples = load_cases(spread_evenly(cases, count), spec)
    return [
        np.ascontiguousarray(cut_middle(example.image, spec.input.size_px))[None]
        for example in spread_evenly(examples, count)
    ]


def spread_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items, evenly spaced.

    Example:
        >>> spread_evenly("abcdefg", 3)
        ['a', 'd', 'g']
    """
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]

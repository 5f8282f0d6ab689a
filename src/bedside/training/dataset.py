"""Examples on the network's grid, by the preprocessing of the bundle."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bedside.datasets import Case
from bedside.datasets.case import open_image, read_case
from bedside.pipeline.axis_roles import resolve_axes
from bedside.pipeline.frames.plan import plan_sequence, stack_neighbours
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.spec import DeploymentSpec
from bedside.training.cache import load_cached
from bedside.training.example import Example
from bedside.volume import ImageSequence

MOST_FRAMES = 16
"""Frames that are taken of a film or scan without labels: those between are much alike."""


def load_case(case: Case, spec: DeploymentSpec) -> list[Example]:
    """Examples of a case: one per frame, or the whole scan for a 3-D network.

    Raises:
        DataError: If the truth does not fit the image or the labels.
        InputError: If the image cannot be read.
    """
    source, truth = read_case(case, tuple(label.value for label in spec.labels))
    return _make_examples(source.sequence, truth, spec, chosen=range(len(truth)))


def load_unlabelled(case: Case, spec: DeploymentSpec) -> list[Example]:
    """Examples of an image without labels, whose truth is empty.

    For a 2D network at most `MOST_FRAMES` of a film or scan, evenly spread.

    Raises:
        InputError: If the image cannot be read, or does not suit the deployment.
    """
    sequence = open_image(case).sequence
    frames, _, *plane = sequence.shape
    nothing = np.broadcast_to(np.uint8(0), (frames, *plane))
    spread = np.linspace(0, frames - 1, min(frames, MOST_FRAMES)).round().astype(int)
    return _make_examples(sequence, nothing, spec, chosen=spread.tolist())


def _make_examples(
    sequence: ImageSequence, truth: np.ndarray, spec: DeploymentSpec, *, chosen: Sequence[int]
) -> list[Example]:
    """Preprocess the chosen frames and their labels, or a whole scan for a 3-D network."""
    # Axes and scale are interpreted as in inference, so that the inputs are the same.
    sequence = resolve_axes(sequence, spec)
    if spec.model.spatial_dims == 3:
        prepared = prepare_volume(sequence, spec)
        return [Example(prepared.tensor, prepared.transform.project(truth))]
    examples = []
    sequence = stack_neighbours(sequence, spec.input.neighbours)
    plan = plan_sequence(sequence, spec)
    for index in chosen:
        image = plan.apply(sequence.decode(index))[0]
        labels = plan.transform.project(truth[index], spec.input.size_px)
        examples.append(Example(image, labels))
    return examples


def load_cases(
    cases: Sequence[Case],
    spec: DeploymentSpec,
    *,
    cache: Path | None = None,
    on_case: Callable[[int], None] | None = None,
) -> list[Example]:
    """Read cases in order, several at a time.

    Args:
        cases: What to read.
        spec: The deployment, with preprocessing and labels.
        cache: Folder of preprocessed cases, read and added to; None for none.
        on_case: Called with the number of cases read.
    """

    def load(case: Case) -> list[Example]:
        if cache is None:
            return load_case(case, spec)
        return load_cached(case, spec, folder=cache, load=load_case)

    examples: list[Example] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for count, loaded in enumerate(pool.map(load, cases), 1):
            examples.extend(loaded)
            if on_case:
                on_case(count)
    return examples

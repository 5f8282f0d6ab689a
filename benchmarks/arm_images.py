"""Real images of validation patients as a network sees them, and the labels that logits give."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle
from bedside.evaluation.parts import list_part
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import FramePlan, stack_neighbours
from bedside.pipeline.segmenter import open_segmenter
from bedside.pipeline.volumes.prepare import PreparedVolume, prepare_volume
from bedside.pipeline.volumes.sliding_window import plan_window, predict_slabs
from bedside.spec import DeploymentSpec
from bedside.training.calibration import spread_evenly

Predict = Callable[[np.ndarray], np.ndarray]
"""From (1, C, *S) float32 to (1, K, *S / stride) logits."""


@dataclass(frozen=True)
class Frame:
    """A frame for a network of two axes.

    Attributes:
        tensor: (1, C, H, W) float32.
        plan: Its transform.
        stride: Pixels of the tensor for a logit.
    """

    tensor: np.ndarray
    plan: FramePlan
    stride: int

    def label(self, predict: Predict) -> np.ndarray:
        """Labels on the frame's own grid, (H, W) uint8."""
        return self.plan.transform.restore(predict(self.tensor)[0], stride=self.stride)


@dataclass(frozen=True)
class Scan:
    """A scan for a network of three axes, which sees it window by window.

    Attributes:
        prepared: The scan on the network's grid.
        spec: The deployment.
    """

    prepared: PreparedVolume
    spec: DeploymentSpec

    def label(self, predict: Predict) -> np.ndarray:
        """Labels on the scan's own grid, (D, H, W) uint8."""
        transform = self.prepared.transform
        slabs = predict_slabs(
            predict, self.prepared.read, transform.tensor_shape, plan_window(self.spec)
        )
        return transform.restore(slabs, stride=self.spec.model.logit_stride)


def read_images(bundle: Bundle, data: Path, count: int) -> list[Frame | Scan]:
    """Frames of some validation patients, or their scans, as the pipeline prepares them.

    Of a case its middle frame is taken; of fewer cases than images, several frames each.

    Args:
        bundle: Whose split and preprocessing.
        data: Folder of its data set.
        count: Images at most, evenly over the patients.
    """
    spec = bundle.spec
    segmenter = open_segmenter(bundle, precision="f32", threads=1)
    images: list[Frame | Scan] = []
    cases = spread_evenly(list_part(bundle, data, "val"), count)
    each = -(-count // len(cases))
    for case in cases:
        sequence = segmenter.resolve_axes(open_source(case.image).sequence)
        if spec.model.spatial_dims == 3:
            images.append(Scan(prepare_volume(sequence, spec), spec))
            continue
        sequence = stack_neighbours(sequence, spec.input.neighbours)
        plan = segmenter.plan(sequence)
        for place in sorted({(2 * k + 1) * len(sequence) // (2 * each) for k in range(each)}):
            tensor = plan.apply(sequence.decode(place))
            images.append(Frame(tensor, plan, spec.model.logit_stride))
    return spread_evenly(images, count)


def record(images: list[Frame | Scan], predict: Predict) -> tuple[np.ndarray, np.ndarray]:
    """Run a network over images.

    Returns:
        All tensors that it was given, (tensors, C, *S), and the labels of all images, flat.
    """
    seen: list[np.ndarray] = []

    def remember(tensor: np.ndarray) -> np.ndarray:
        seen.append(tensor)
        return predict(tensor)

    labels = label(images, remember)
    return np.concatenate(seen), labels


def replay(images: list[Frame | Scan], logits: np.ndarray) -> np.ndarray:
    """Labels of all images, flat, from the logits of all tensors that `record` returned."""
    rest: Iterator[np.ndarray] = iter(logits)
    return label(images, lambda _: next(rest)[None])


def label(images: list[Frame | Scan], predict: Predict) -> np.ndarray:
    """Labels of all images on their own grids, one after another, flat."""
    return np.concatenate([image.label(predict).ravel() for image in images])

"""Images as a gate sees them: described from what goes into the network, and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from bedside.pipeline.frames.pipeline import FramePipeline
from bedside.pipeline.frames.plan import stack_neighbours
from bedside.pipeline.gate import choose_frames, slice_window
from bedside.pipeline.gate_views import describe
from bedside.pipeline.segmenter import Segmenter
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.pipeline.volumes.sliding_window import plan_window, predict_slabs
from bedside.pipeline.volumes.tilt import correct_gantry_tilt
from bedside.volume import ImageSequence


@dataclass(frozen=True)
class Described:
    """One image as a gate sees it.

    Attributes:
        views: Its descriptions by name.
        frame_px: (height, width) of its frame; None for a slice of a scan.
    """

    views: Mapping[str, np.ndarray]
    frame_px: tuple[int, int] | None = None


def describe_images(segmenter: Segmenter, sequence: ImageSequence) -> list[Described]:
    """Run a sequence through the network: the frames that a gate looks at, or slices of a scan.

    Raises:
        InputError: If the image is refused.
    """
    pipeline = segmenter.pipeline
    resolved = segmenter.resolve_axes(sequence)
    if not isinstance(pipeline, FramePipeline):
        return _describe_windows(segmenter, resolved)
    stacked = stack_neighbours(resolved, segmenter.spec.input.neighbours)
    plan = pipeline.plan(stacked, force=True)
    described = []
    for index in choose_frames(len(stacked)):
        tensor = plan.apply(stacked.decode(index))
        if plan.mirrored:
            tensor = np.ascontiguousarray(tensor[..., ::-1])
        views = describe(tensor[0], segmenter.session.predict(tensor)[0])
        described.append(Described(views, plan.transform.source_shape))
    return described


def _describe_windows(segmenter: Segmenter, sequence: ImageSequence) -> list[Described]:
    """Slices of all windows of a scan."""
    correction = correct_gantry_tilt(sequence)[1]
    straight = sequence if correction is None else correction.straighten(sequence)
    prepared = prepare_volume(straight, segmenter.spec)
    described: list[Described] = []

    def predict(tensor: np.ndarray) -> np.ndarray:
        logits = segmenter.session.predict(tensor)
        described.extend(
            Described(describe(*passed)) for passed in slice_window(tensor[0], logits[0])
        )
        return logits

    window = plan_window(segmenter.spec)
    for _ in predict_slabs(predict, prepared.read, prepared.transform.tensor_shape, window):
        pass
    return described


def to_picture(frame: np.ndarray, *, grey: bool = False) -> np.ndarray:
    """Picture of a decoded frame, (H, W) or (H, W, 3) uint8, stretched if it is anything else.

    Args:
        frame: (C, H, W) with 1 or 3 channels; of other numbers the first counts.
        grey: Whether colours are left out.
    """
    image = frame.transpose(1, 2, 0) if len(frame) == 3 else frame[0]
    if image.dtype != np.uint8:
        low, high = np.percentile(image, (0.5, 99.5))
        unit = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
        image = (255 * unit).astype(np.uint8)
    if grey and image.ndim == 3:
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(image)

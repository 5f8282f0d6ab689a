"""Peak memory of a segmentation, predicted before the image is read."""

import math
from dataclasses import dataclass

from bedside.errors import MemoryLimitError
from bedside.pipeline.components import SLAB_VOXELS
from bedside.pipeline.postprocess.scans import SCAN_APPLIERS
from bedside.pipeline.volumes.transform import VolumeTransform
from bedside.spec import DeploymentSpec, ScalePercentile
from bedside.system.parallel import count_workers
from bedside.volume import ImageSequence

_FLOAT, _HALF = 4, 2
# Modules and buffers that come after the first look: pictures drawn side by side, reports, the
# writer.
_LATER_BYTES = 22 * 2**20
# Bytes for each voxel of a slab in which components are found, measured on labels like noise.
_COMPONENT_BYTES = 15
# Numbers of all components, for each voxel of such a scan; next to nothing of a sound one.
_NUMBERS_BYTES = 0.5
# Bytes for each voxel of a scan, where a repair is not made slab by slab.
_WHOLE_BYTES = 10
# Copies of one slice of the source at full size: decoded, as float, interpolated, drawn.
_SLICE_COPIES = 10
# Copies of the logits of one plane while they become probabilities.
_PLANE_COPIES = 3
# Windows that the network's thread holds beside the one that is blended: the next one, and as much
# as its own heap keeps.
_WINDOWS_AHEAD = 2
# Safety margin on the expected peak.
_MARGIN = 1.05


@dataclass(frozen=True)
class MemoryPlan:
    """How a scan is held, and the peak of memory.

    Attributes:
        half: Whether it is kept in 16 bits on its way through the network.
        peak_bytes: Largest resident memory of the process that is expected.
    """

    half: bool
    peak_bytes: int


def plan_volume(
    sequence: ImageSequence,
    transform: VolumeTransform,
    spec: DeploymentSpec,
    *,
    base_bytes: int,
    max_bytes: int | None = None,
    probabilities: bool = False,
) -> MemoryPlan:
    """Choose the precision that a scan is held in so that the process stays under a ceiling.

    Args:
        sequence: The scan, not read.
        transform: How it will lie in the network's tensor.
        spec: The deployment.
        base_bytes: Resident memory of the process, runtime and network ready.
        max_bytes: The ceiling; None for none.
        probabilities: Whether class probabilities are kept on the scan's grid.

    Raises:
        MemoryLimitError: If no way stays under it; the smallest ceiling that would do is named.
    """
    kept_bytes = base_bytes
    if probabilities:
        shape = transform.source_shape
        kept_bytes += _count_probabilities(spec.model.num_classes, shape, copies=count_workers())
    plans = [
        MemoryPlan(half, kept_bytes + _count(sequence, transform, spec, half=half))
        for half in (False, True)
    ]
    return _choose(plans, max_bytes)


def plan_frames(
    sequence: ImageSequence, *, base_bytes: int, max_bytes: int | None = None, classes: int = 0
) -> MemoryPlan:
    """Peak memory of a sequence whose frames are segmented one by one.

    Args:
        sequence: The frames, not decoded.
        base_bytes: Resident memory of the process, runtime and network ready.
        max_bytes: The ceiling; None for none.
        classes: Classes whose probabilities are kept, background among them; 0 for none.

    Raises:
        MemoryLimitError: If that is more than the ceiling.
    """
    frames, channels, height, width = sequence.shape
    labels = frames * height * width
    peak = base_bytes + _LATER_BYTES + labels + _SLICE_COPIES * _FLOAT * channels * height * width
    peak += _count_probabilities(classes, (frames, height, width), copies=1)
    return _choose([MemoryPlan(False, peak)], max_bytes)


def _count_probabilities(classes: int, shape: tuple[int, ...], *, copies: int) -> int:
    """Bytes of the probabilities of a grid, and of `copies` planes in progress."""
    plane = _PLANE_COPIES * classes * math.prod(shape[1:])
    return _FLOAT * (classes * math.prod(shape) + copies * plane)


def _choose(plans: list[MemoryPlan], max_bytes: int | None) -> MemoryPlan:
    """The first plan that fits under the ceiling."""
    if max_bytes is None:
        return plans[0]
    for plan in plans:
        if plan.peak_bytes * _MARGIN <= max_bytes:
            return plan
    smallest = math.ceil(plans[-1].peak_bytes * _MARGIN / 1e6)
    raise MemoryLimitError(
        f"this would take {smallest} MB, more than the {max_bytes / 1e6:.0f} MB allowed. "
        f"Allow it with --max-ram {smallest}MB, or crop the scan."
    )


def _count(
    sequence: ImageSequence, transform: VolumeTransform, spec: DeploymentSpec, *, half: bool
) -> int:
    """Bytes held at the same time, in the phase that holds most."""
    frames, channels, height, width = sequence.shape
    grid = channels * math.prod(transform.grid)
    source = frames * height * width
    stride, classes = spec.model.logit_stride, spec.model.num_classes
    kept = grid * (_HALF if half else _FLOAT)
    slices = _SLICE_COPIES * _FLOAT * channels * height * width
    reading = grid * _FLOAT + (kept if half else 0) + slices
    if any(isinstance(step, ScalePercentile) for step in spec.preprocess):
        # Values that count are copied to be sorted.
        reading = max(reading, grid * _FLOAT + 2 * _FLOAT * math.prod(transform.grid))
    depth, rows, columns = (size // stride for size in transform.tensor_shape)
    side = spec.input.size_px[0] // stride
    window = math.prod(spec.input.size_px)
    whole = (depth, rows, columns) == tuple(size // stride for size in spec.input.size_px)
    held = 0 if whole else _FLOAT * (classes + 1) * side * rows * columns
    logits = classes * window // stride**3
    per_window = _FLOAT * (channels * window + 2 * logits)
    if not whole and count_workers() > 1:
        per_window += _WINDOWS_AHEAD * _FLOAT * (channels * window + logits)
    finest = transform.orientation.reorder((frames, height, width))
    placing = int(_FLOAT * (classes + 1) * (1.5 * finest[1] * finest[2] + rows * columns))
    network = kept + source + held + per_window + placing
    repairing = source + _COMPONENT_BYTES * min(source, SLAB_VOXELS) + slices
    repairing += int(_NUMBERS_BYTES * source)
    if spec.priors or any(type(step) not in SCAN_APPLIERS for step in spec.postprocess):
        # Masks and numbered parts of the whole scan.
        repairing += _WHOLE_BYTES * source
    return _LATER_BYTES + max(reading, network, repairing)

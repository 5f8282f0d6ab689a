"""Validation of a network during training."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bedside.pipeline.volumes.sliding_window import plan_window, predict_windows
from bedside.spec import DeploymentSpec
from bedside.training.batches import to_batch
from bedside.training.example import Example
from bedside.training.losses import resize_logits
from bedside.training.session import TorchSession

_MOST_ELEMENTS = 16 * 256 * 256
"""Pixels or voxels of one batch; a larger image is a batch of its own."""


@torch.no_grad()
def validate(
    model: nn.Module, examples: Sequence[Example], *, spec: DeploymentSpec, device: torch.device
) -> list[float]:
    """Mean Dice of each structure over examples, on the network's grid.

    A quick check while training; the accuracy that a card states is measured on the
    input's own grid, with `bedside.evaluation`.

    Args:
        model: From (B, C, *S) to logits at any stride.
        examples: What to look at; a scan larger than the window of `spec` is covered window
            by window, as in use.
        spec: Labels, size of the window, stride of the logits.
        device: Where the model is.

    Returns:
        One value a structure, background left out; an example without it counts if the
        model drew it.
    """
    model.eval()
    tables = []
    num_classes = spec.model.num_classes
    for batch in _batches(examples):
        images, truths = (tensor.to(device) for tensor in to_batch(batch))
        if images.ndim == 5 and images.shape[2:] != spec.input.size_px:
            given = _cover(model, batch[0].image, spec, device)
        else:
            given = model(images).float()
        logits = resize_logits(given, truths.shape[1:])
        truths = truths.long()
        tables.extend(count_pairs(logits.argmax(dim=1), truths, num_classes=num_classes))
    counts = torch.stack(tables).double().cpu().numpy()
    twice = 2 * np.diagonal(counts, axis1=1, axis2=2)[:, 1:]
    total = (counts.sum(axis=1) + counts.sum(axis=2))[:, 1:]
    present = total > 0
    dice = np.divide(twice, total, out=np.zeros_like(total), where=present)
    return [
        float(scores[there].mean()) if there.any() else math.nan
        for scores, there in zip(dice.T, present.T, strict=True)
    ]


def _cover(
    model: nn.Module, image: np.ndarray, spec: DeploymentSpec, device: torch.device
) -> torch.Tensor:
    """Return the logits of a scan (C, D, H, W), as (1, K, d, h, w), from overlapping windows."""
    logits = predict_windows(TorchSession(model, device).predict, image, plan_window(spec))
    return torch.from_numpy(logits[None]).to(device)


def count_pairs(
    predictions: torch.Tensor, truths: torch.Tensor, *, num_classes: int
) -> list[torch.Tensor]:
    """Count, for each image, how often each true label was drawn as each label.

    Args:
        predictions: (B, *S) int64 labels.
        truths: The same.
        num_classes: Number of labels, background included.

    Returns:
        For each image (num_classes, num_classes): true label, drawn label.

    Example:
        >>> pairs = count_pairs(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]), num_classes=2)
        >>> pairs[0].tolist()
        [[1, 1], [0, 1]]
    """
    codes = (truths * num_classes + predictions).flatten(1)
    shape = num_classes, num_classes
    return [torch.bincount(code, minlength=num_classes**2).reshape(shape) for code in codes]


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Group neighbours of one size, a few megapixels at a time; scans go one by one."""
    for shape, group in itertools.groupby(examples, key=lambda example: example.truth.shape):
        alike = list(group)
        size = 1 if len(shape) == 3 else max(1, _MOST_ELEMENTS // math.prod(shape))
        for begin in range(0, len(alike), size):
            yield alike[begin : begin + size]

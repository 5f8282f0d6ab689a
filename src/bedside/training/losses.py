"""Segmentation losses."""

from typing import Any, cast

import torch
from torch.nn import functional

from bedside.training.parallel import sum_over_ranks, world_size

_LINEAR = {2: "bilinear", 3: "trilinear"}
_MAX_POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}


def overlap_losses(
    logits: torch.Tensor, truth: torch.Tensor, *, smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft Dice loss over the batch, and cross-entropy per pixel.

    The soft Dice is one minus that of each structure over the batch, averaged over the structures
    that the batch has, background left out. One that is in none of its images is left to the
    cross-entropy: its Dice could only fall, most steeply where next to nothing of it is drawn, and
    a structure that is missing in many batches would never be learnt. Where several processes train
    together, their batches count as one.

    Both come from one softmax, and their gradient is written out, which takes half the
    time of what differentiation would make of it; once only.

    Args:
        logits: (B, K, *S) float32 or float64.
        truth: (B, *S) int64 labels.
        smoothing: Part of each pixel's truth that is spread over all labels alike.

    Returns:
        The soft Dice loss, a scalar in [0, 1] and 0 without any structure, and the cross-entropy
        (B, *S) of every pixel.

    Source:
        Soft Dice: Milletari et al., V-Net, 3DV 2016; over the batch as in nnU-Net.
        Smoothed labels: Szegedy et al., CVPR 2016.

    Example:
        >>> truth = torch.tensor([[[0, 1], [1, 0]]])
        >>> logits = 50.0 * functional.one_hot(truth, 2).movedim(-1, 1).float()
        >>> dice, entropy = overlap_losses(logits, truth)
        >>> round(float(dice), 3), float(entropy.abs().max())
        (0.0, 0.0)
    """
    flat = logits.flatten(2)
    dice, entropy = cast(Any, _OverlapLosses).apply(flat, truth.flatten(1), smoothing)
    return dice, entropy.reshape(truth.shape)


class _OverlapLosses(torch.autograd.Function):
    """Soft Dice and cross-entropy of (B, K, N) logits, and their gradient."""

    @staticmethod
    def forward(
        context: Any, logits: torch.Tensor, truth: torch.Tensor, smoothing: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = logits.shape[1]
        logs = logits.log_softmax(dim=1)
        true_logs = logs.gather(1, truth[:, None])[:, 0]
        entropy = -(1 - smoothing) * true_logs
        if smoothing:
            entropy -= smoothing * logs.mean(dim=1)
        probabilities = logs.exp_()
        true_probabilities = true_logs.exp_()
        codes = truth.flatten()
        sums = torch.stack(
            [
                torch.bincount(codes, true_probabilities.flatten().double(), minlength=count),
                probabilities.sum(dim=2).double().sum(dim=0),
                torch.bincount(codes, minlength=count).double(),
            ]
        )
        overlap, drawn, true = sum_over_ranks(sums)[:, 1:].to(logits.dtype)
        present = (true > 0).to(logits.dtype)
        shares = present / present.sum().clamp(min=1)
        context.save_for_backward(
            probabilities, true_probabilities, truth, overlap, drawn + true + 1, shares
        )
        context.smoothing = smoothing
        return (shares * (1 - (2 * overlap + 1) / (drawn + true + 1))).sum(), entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        context: Any, of_dice: torch.Tensor, of_entropy: torch.Tensor
    ) -> tuple[torch.Tensor, None, None]:
        probabilities, true_probabilities, truth, overlap, total, shares = context.saved_tensors
        count = probabilities.shape[1]
        # Of the soft Dice by each probability: a slope for its label, and another one where
        # its label is true. Ranks average their gradients, and each has only a part of the sum.
        slopes = of_dice * world_size() * shares
        anywhere = functional.pad(slopes * (2 * overlap + 1) / total**2, (1, 0))
        of_label = functional.pad(-2 * slopes / total, (1, 0)).index_select(0, truth.flatten())
        where_true = of_label.reshape(truth.shape) * true_probabilities
        # Through the softmax: p_k * (g_k - sum_j p_j g_j), and p_k - y_k for the entropy.
        mean = torch.matmul(anywhere, probabilities) + where_true
        gradient = (of_entropy - mean)[:, None] + anywhere[:, None]
        gradient *= probabilities
        of_true = where_true - (1 - context.smoothing) * of_entropy
        gradient.scatter_add_(1, truth[:, None], of_true[:, None])
        if context.smoothing:
            gradient -= (context.smoothing / count * of_entropy)[:, None]
        return gradient, None, None


def resize_logits(logits: torch.Tensor, sizes: torch.Size) -> torch.Tensor:
    """Interpolate (B, K, *s) linearly to other spatial sizes, in two or three axes."""
    if logits.shape[2:] == sizes:
        return logits
    return functional.interpolate(logits, sizes, mode=_LINEAR[len(sizes)])


def sample_labels(labels: torch.Tensor, sizes: torch.Size) -> torch.Tensor:
    """(B, *S) labels sampled at the centres of a coarser grid's cells.

    Example:
        >>> sample_labels(torch.arange(6)[None], torch.Size([2]))
        tensor([[1, 4]])
    """
    for axis, (size, coarse) in enumerate(zip(labels.shape[1:], sizes, strict=True), 1):
        if size != coarse:
            cells = torch.arange(coarse, device=labels.device)
            labels = labels.index_select(axis, ((2 * cells + 1) * size - 1) // (2 * coarse))
    return labels


def find_outlines(labels: torch.Tensor, *, reach: int) -> torch.Tensor:
    """Mask of pixels near a boundary between labels.

    Args:
        labels: (B, *S) integers.
        reach: Distance in pixels at which another label is near; at least 1. Diagonals
            count as one step.

    Returns:
        (B, *S) bool.

    Example:
        >>> find_outlines(torch.tensor([[[0, 0, 0, 1, 1]]]), reach=1).int()
        tensor([[[0, 0, 1, 1, 0]]], dtype=torch.int32)
    """
    near = torch.zeros_like(labels, dtype=torch.bool)
    for axis in range(1, labels.ndim):
        last = labels.shape[axis] - 1
        change = labels.narrow(axis, 1, last) != labels.narrow(axis, 0, last)
        near.narrow(axis, 1, last).logical_or_(change)
        near.narrow(axis, 0, last).logical_or_(change)
    for axis in range(1, labels.ndim):
        last = labels.shape[axis] - 1
        for _ in range(reach - 1):
            before = near.clone()
            near.narrow(axis, 1, last).logical_or_(before.narrow(axis, 0, last))
            near.narrow(axis, 0, last).logical_or_(before.narrow(axis, 1, last))
    return near


def mean_over(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over a mask of the same shape; 0 if it is empty."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def outline_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Loss of the boundary branch: binary cross-entropy and soft Dice.

    Args:
        logits: (B, 1, *s) of being at an outline.
        truth: (B, *S) labels.

    Returns:
        A scalar.
    """
    outlines = find_outlines(truth, reach=1)[:, None].float()
    # A coarse cell is at an outline if any pixel in it is.
    stride = [
        -(-size // coarse) for size, coarse in zip(truth.shape[1:], logits.shape[2:], strict=True)
    ]
    target = _MAX_POOL[truth.ndim - 1](outlines, stride, ceil_mode=True)
    drawn = logits.sigmoid()
    dice = (2 * (drawn * target).sum() + 1) / (drawn.sum() + target.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, target) + 1 - dice

"""What the network is punished for."""

import torch
from torch.nn import functional

_LINEAR = {2: "bilinear", 3: "trilinear"}


def soft_dice_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of each structure over the batch, averaged; background left out.

    Args:
        logits: (B, K, *S).
        truth: (B, *S) int64 labels.

    Returns:
        Scalar in [0, 1].

    Source:
        Milletari et al., V-Net, 3DV 2016; over the batch as in nnU-Net.

    Example:
        >>> truth = torch.tensor([[[0, 1], [1, 0]]])
        >>> logits = 50.0 * functional.one_hot(truth, 2).movedim(-1, 1)
        >>> round(float(soft_dice_loss(logits, truth)), 3)
        0.0
    """
    probabilities = logits.softmax(dim=1)[:, 1:]
    target = functional.one_hot(truth, logits.shape[1]).movedim(-1, 1)[:, 1:]
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * target).sum(dim=axes)
    total = probabilities.sum(dim=axes) + target.sum(dim=axes)
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def resize_logits(logits: torch.Tensor, sizes: torch.Size) -> torch.Tensor:
    """Interpolate (B, K, *s) linearly to other spatial sizes, in two or three axes."""
    if logits.shape[2:] == sizes:
        return logits
    return functional.interpolate(logits, sizes, mode=_LINEAR[len(sizes)])


def segmentation_loss(
    logits: torch.Tensor, truth: torch.Tensor, *, dice_weight: float, ce_weight: float
) -> torch.Tensor:
    """Weighted sum of soft Dice and cross-entropy, at the truth's resolution.

    Args:
        logits: (B, K, *s); raised to the size of the truth first.
        truth: (B, *S) int64 labels.
        dice_weight: Weight of soft Dice.
        ce_weight: Weight of the cross-entropy.
    """
    logits = resize_logits(logits.float(), truth.shape[1:])
    dice = soft_dice_loss(logits, truth)
    return dice_weight * dice + ce_weight * functional.cross_entropy(logits, truth)

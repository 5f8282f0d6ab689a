"""Distillation losses: per pixel, per channel, and by correlation."""

from collections.abc import Sequence

import torch
from torch import nn

from bedside.errors import SpecError
from bedside.layers.conv import CONVOLUTIONS
from bedside.spec import ModelSpec


def mean_logits(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits of the mean probabilities of several teachers; those of one unchanged.

    Args:
        logits: (B, K, *s) of each teacher.

    Returns:
        (B, K, *s) logits whose softmax is the mean of theirs.
    """
    if len(logits) == 1:
        return logits[0]
    logs = torch.stack([each.log_softmax(dim=1) for each in logits])
    return logs.logsumexp(dim=0)


def pixel_divergence(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Kullback-Leibler divergence of the student's labels from the teacher's, in every pixel.

    Args:
        student: (B, K, *s) logits.
        teacher: The same.
        temperature: What both are divided by; above 1, less likely labels count more. The
            result is multiplied by its square, so that its gradient keeps its size.

    Returns:
        (B, *s), at least 0.

    Source:
        Hinton et al., Distilling the knowledge in a neural network, 2015.
    """
    logs = (student / temperature).log_softmax(dim=1)
    wanted = (teacher / temperature).log_softmax(dim=1)
    divergence: torch.Tensor = (wanted.exp() * (wanted - logs)).sum(dim=1)
    return temperature**2 * divergence


def channel_divergence(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Divergence of the activity of each channel, as a distribution over pixels.

    Args:
        student: (B, C, *s) logits or features.
        teacher: The same.
        temperature: What both are divided by.

    Returns:
        A scalar, at least 0: the divergence, averaged over images and channels.

    Source:
        Shu et al., Channel-wise knowledge distillation for dense prediction, ICCV 2021.
    """
    logs = (student.flatten(2) / temperature).log_softmax(dim=2)
    wanted = (teacher.flatten(2) / temperature).log_softmax(dim=2)
    return temperature**2 * (wanted.exp() * (wanted - logs)).sum(dim=2).mean()


def correlation_loss(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Correlation of probabilities: over labels in a pixel, and over pixels for a label.

    A student smaller than its teacher need not be as sure, only to rank alike.

    Args:
        student: (B, K, *s) logits.
        teacher: The same.
        temperature: What both are divided by before the softmax.

    Returns:
        A scalar in [0, 4]: one minus the mean correlation over labels, and the same over
        the pixels of the batch.

    Source:
        Huang et al., Knowledge distillation from a stronger teacher, NeurIPS 2022.
    """
    ours, theirs = (
        (logits / temperature).softmax(dim=1).flatten(2).movedim(1, 0).flatten(1)
        for logits in (student, teacher)
    )
    between = _correlation(ours, theirs, dim=0).mean()
    within = _correlation(ours, theirs, dim=1).mean()
    return 2 - between - within


class FeatureMatch(nn.Module):
    """Projects a student's features to its teacher's channels, at common strides.

    Args:
        student: The student's network.
        teacher: The teacher's.

    Raises:
        SpecError: If no stride is common to both.
    """

    def __init__(self, student: ModelSpec, teacher: ModelSpec) -> None:
        super().__init__()
        ours, theirs = (
            {spec.stem_stride * 2**index: index for index in range(len(spec.levels))}
            for spec in (student, teacher)
        )
        self.levels = [(ours[stride], theirs[stride]) for stride in ours if stride in theirs]
        if not self.levels:
            raise SpecError(
                f"student and teacher have no level at a common stride: {list(ours)} and "
                f'{list(theirs)}. Set distill.channel_on to "logits".'
            )
        convolution = CONVOLUTIONS[student.spatial_dims]
        self.adapters = nn.ModuleList(
            convolution(student.levels[our].channels, teacher.levels[their].channels, 1)
            for our, their in self.levels
        )

    def forward(
        self, student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pair features, the student's first, both float32 and of the same shape."""
        return [
            (adapter(student[our].float()), teacher[their].float())
            for adapter, (our, their) in zip(self.adapters, self.levels, strict=True)
        ]


def _correlation(a: torch.Tensor, b: torch.Tensor, *, dim: int) -> torch.Tensor:
    """Pearson's correlation along one axis."""
    a = a - a.mean(dim=dim, keepdim=True)
    b = b - b.mean(dim=dim, keepdim=True)
    norms = (a.square().sum(dim=dim) * b.square().sum(dim=dim)).clamp(min=1e-12).sqrt()
    return (a * b).sum(dim=dim) / norms

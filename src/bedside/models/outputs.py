"""Outputs of a network in training."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Outputs:
    """Logits, and what deep supervision, outlines and distillation of features compare.

    Attributes:
        logits: (B, num_classes, *S / logit_stride).
        auxiliary: Logits of the decoder's coarser levels, from fine to coarse, each at
            its level's stride; empty without deep supervision.
        boundary: (B, 1, *S / logit_stride), logits of being at an outline; None without
            the boundary branch.
        features: Output of each level of the encoder, from fine to coarse, for a
            teacher's and a student's to be compared.
    """

    logits: torch.Tensor
    auxiliary: tuple[torch.Tensor, ...]
    boundary: torch.Tensor | None
    features: tuple[torch.Tensor, ...]

"""Training for 8 bits: a network that computes as its quantized graph will.

What it learns is exported and quantized like any other network: `quantize_int8` finds the same
ranges, by the same statistic of the calibration images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bedside.errors import UsageError
from bedside.layers.rounding import Rounded, list_convolutions, round_convolution

_MOMENTUM = 0.01
"""How fast a range follows what training sees, a step."""


@dataclass
class InputRange:
    """8-bit range of the input of a convolution: a forward pre-hook that rounds it.

    It reaches to the mean of what images reach to, as in the quantizer that makes the graph:
    to the largest of all would give a level to what hardly ever occurs. While the network
    trains, it follows what is seen.

    Attributes:
        high: Largest magnitude that 8 bits reach.
        signed: Whether there are values below 0; without them all levels are above.
        watching: Whether values are only observed, to find their range.
        images: How many have been observed.
    """

    high: float = 0.0
    signed: bool = False
    watching: bool = True
    images: int = 0

    @property
    def scale(self) -> float:
        """Size of a level."""
        return max(self.high, 1e-6) / (127 if self.signed else 255)

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Round the input of the convolution."""
        (x,) = inputs
        if self.watching or module.training:
            self._watch(x.detach())
        if self.watching:
            return None
        lowest, highest = (-128, 127) if self.signed else (0, 255)
        rounded = torch.fake_quantize_per_tensor_affine(x.float(), self.scale, 0, lowest, highest)
        return (rounded.to(x.dtype),)

    def _watch(self, x: torch.Tensor) -> None:
        reached = x.abs().flatten(1).amax(1)
        if self.watching:
            self.signed |= bool((x < 0).any())
            self.images += len(reached)
            self.high += (float(reached.sum()) - len(reached) * self.high) / self.images
        else:
            self.high += _MOMENTUM * (float(reached.mean()) - self.high)


def attach(model: nn.Module, calibration: Sequence[np.ndarray]) -> nn.Module:
    """Let a network compute in 8 bits where its quantized graph will, in place.

    Weights have one scale a channel and the bits that the spec gave them, or 8; what each
    convolution reads has one scale. Products of attention and softmax stay as they are.
    Convolutions of parallel branches are left in f32. Names of weights do not change; ranges
    are not among them, and are found anew from the calibration images.

    Args:
        model: The network, with trained weights.
        calibration: Tensors (B, C, *S) float32, preprocessed as in use.

    Returns:
        The model, to be trained on.

    Raises:
        UsageError: If there are no calibration images.
    """
    if not calibration:
        raise UsageError("no calibration images; give some tens that training has seen.")
    ranges = []
    for _, convolutions in list_convolutions(model):
        for convolution in convolutions:
            if not isinstance(convolution, Rounded):
                round_convolution(convolution, 8)
            ranges.append(InputRange())
            convolution.register_forward_pre_hook(ranges[-1])
    mode = model.training
    model.eval()
    with torch.no_grad():
        for tensor in calibration:
            model(torch.from_numpy(tensor).float())
    for each in ranges:
        each.watching = False
    return model.train(mode)

"""Convolutions over three axes that train fast on a CPU; they compute what `nn.Conv3d` does.

torch's own 1x1x1 convolution in f32 leaves the channels-last layout, and all that follows
pays for it; its depthwise backward pass is ten times slower than it has to be.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import functional

_LAYOUT = torch.channels_last_3d


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution of stride 1, as one matrix product over channels-last voxels.

    Example:
        >>> layer = PointwiseConv3d(2, 3, 1)
        >>> layer(torch.rand(1, 2, 4, 5, 6)).shape
        torch.Size([1, 3, 4, 5, 6])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, D, H, W); an exported graph holds the convolution itself."""
        if torch.compiler.is_exporting() or is_tracing():  # type: ignore[no-untyped-call]
            return super().forward(x)
        rows = functional.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
        return rows.permute(0, 4, 1, 2, 3)


class DepthwiseConv3d(nn.Conv3d):
    """A depthwise convolution of stride 1, without bias, with a backward pass of its own.

    Example:
        >>> layer = DepthwiseConv3d(4, 4, 3, padding=1, groups=4, bias=False)
        >>> layer(torch.rand(1, 4, 5, 6, 7)).shape
        torch.Size([1, 4, 5, 6, 7])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, D, H, W) into the same shape."""
        if not (self.training and torch.is_grad_enabled()) or x.device.type != "cpu":
            return super().forward(x)
        weight: torch.Tensor = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        result: torch.Tensor = _Depthwise.apply(x, weight)  # type: ignore[no-untyped-call]
        return result


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution that keeps the size."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=_LAYOUT)
        # Correlating with the kernel turned around undoes correlating with it.
        grad_x = _convolve(grad, weight.flip(2, 3, 4)) if ctx.needs_input_grad[0] else None
        # In f32 torch's gradient of weights is as fast as the other.
        give = _weight_gradient if x.dtype == torch.float32 else _weight_gradient_by_slices
        return grad_x, give(x, grad, weight)


def _convolve(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    padding = [(size - 1) // 2 for size in weight.shape[2:]]
    return functional.conv3d(x, weight, padding=padding, groups=len(weight))


def _weight_gradient(x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Gradient of a depthwise kernel of two or three axes, stride 1, by torch's own operator."""
    axes = weight.ndim - 2
    padding = [(size - 1) // 2 for size in weight.shape[2:]]
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1] * axes, padding, [1] * axes, False, [0] * axes, len(weight),
        [False, True, False],
    )  # fmt: skip
    found: torch.Tensor = gradients[1]
    return found


def _weight_gradient_by_slices(
    x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The same, a plane of the kernel at a time: in bf16 only two axes have a fast operator."""
    depth, planes = x.shape[2], weight.shape[2]
    found = []
    for plane in range(planes):
        shift = plane - (planes - 1) // 2
        low, high = max(0, -shift), depth - max(0, shift)
        found.append(
            _weight_gradient(
                _to_slices(x[:, :, low + shift : high + shift]),
                _to_slices(grad[:, :, low:high]),
                weight[:, :, plane],
            )
            if high > low
            else torch.zeros_like(weight[:, :, plane])
        )
    return torch.stack(found, dim=2)


def _to_slices(x: torch.Tensor) -> torch.Tensor:
    """Turn (B, C, D, H, W) into a batch of slices, (B * D, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)

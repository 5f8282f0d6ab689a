"""A convolution with its norm as one affine map, and back."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bedside.compression.input_statistics import InputStatistics
from bedside.compression.slicing import Weights, multiply_out

_EPS = 1e-5
"""What torch's batch norms add to the variance."""


@dataclass(frozen=True)
class Affine:
    """Map of a 1x1 convolution with its norm: `matrix @ x + bias`.

    Attributes:
        matrix: (out, in) float64.
        bias: (out,) float64.
    """

    matrix: torch.Tensor
    bias: torch.Tensor

    def rows(self, begin: int, end: int) -> "Affine":
        """Map to some of the channels."""
        return Affine(self.matrix[begin:end], self.bias[begin:end])

    def then(self, matrix: torch.Tensor) -> "Affine":
        """Multiply the result by another matrix."""
        return Affine(matrix @ self.matrix, matrix @ self.bias)

    def covariance(self, inputs: InputStatistics) -> torch.Tensor:
        """Covariance of the result."""
        return self.matrix @ inputs.covariance @ self.matrix.T

    def second_moment(self, inputs: InputStatistics) -> torch.Tensor:
        """Mean product of the result's channels."""
        mean = self.matrix @ inputs.mean + self.bias
        return self.covariance(inputs) + torch.outer(mean, mean)


def read_affine(weights: Mapping[str, torch.Tensor], path: str) -> Affine:
    """Read the map of a 1x1 convolution, whole or factored, with its norm in evaluation mode."""
    matrix = multiply_out(weights, path).double().flatten(1)
    weight, bias, mean, variance = (
        weights[f"{path}.1.{name}"].double()
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / (variance + _EPS).sqrt()
    return Affine(scale[:, None] * matrix, bias - mean * scale)


def write_affine(
    weights: Mapping[str, torch.Tensor], path: str, affine: Affine, inputs: InputStatistics
) -> Weights:
    """Write a map as a whole convolution and a norm whose statistics are those of its input.

    Args:
        weights: State, in which the convolution is whole.
        path: Of the convolution with its norm.
        affine: What it is to do.
        inputs: Moments of what it is given; if they are true, taking the norm's statistics
            again changes nothing.
    """
    old = weights[f"{path}.0.weight"]
    mean = affine.matrix @ inputs.mean
    variance = (affine.matrix @ inputs.covariance * affine.matrix).sum(dim=1)
    norm = {
        "weight": (variance + _EPS).sqrt(),
        "bias": affine.bias + mean,
        "running_mean": mean,
        "running_var": variance,
    }
    shape = (*affine.matrix.shape, *old.shape[2:])
    return {
        **weights,
        f"{path}.0.weight": affine.matrix.reshape(shape).to(old.dtype),
        **{f"{path}.1.{name}": tensor.to(old.dtype) for name, tensor in norm.items()},
    }


def concatenate(parts: list[Affine]) -> Affine:
    """Put the channels of several maps of one input behind each other."""
    return Affine(
        torch.cat([part.matrix for part in parts]), torch.cat([part.bias for part in parts])
    )

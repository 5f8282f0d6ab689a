"""The table of architectures, and the one way to build a model from its spec."""

from collections.abc import Callable
from importlib import import_module

from torch import nn

from bedside.errors import SpecError
from bedside.layers.conv import MEMORY_FORMATS
from bedside.layers.rounding import attach_bits
from bedside.spec import ModelSpec

ARCHITECTURES = {"hybrid": "bedside.models.hybrid:Hybrid"}


def create(spec: ModelSpec) -> nn.Module:
    """Build the network that `spec` describes, with fresh weights.

    Where the spec gives bits, it computes with rounded weights.

    Raises:
        SpecError: If the architecture is not in the table, or bits are given for something
            that is no convolution of it.
    """
    if spec.architecture not in ARCHITECTURES:
        raise SpecError(
            f'no architecture "{spec.architecture}"; choose one of {", ".join(ARCHITECTURES)}.'
        )
    module, name = ARCHITECTURES[spec.architecture].split(":")
    architecture: Callable[[ModelSpec], nn.Module] = getattr(import_module(module), name)
    model = attach_bits(architecture(spec), spec.bits)
    return model.to(memory_format=MEMORY_FORMATS[spec.spatial_dims])  # type: ignore[call-overload, no-any-return]


def count_parameters(model: nn.Module) -> int:
    """Count the weights of a model."""
    return sum(parameter.numel() for parameter in model.parameters())

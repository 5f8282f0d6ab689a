"""The table of architectures, and the one way to build a model from its spec."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from bedside.errors import SpecError
from bedside.layers.conv import MEMORY_FORMATS
from bedside.layers.factored import factor_convolutions
from bedside.layers.rounding import attach_bits
from bedside.models.structure import Structure
from bedside.spec import ModelSpec


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        network: "module:class" of the network; the class takes a `ModelSpec`.
        structure: "module:class" of its `Structure`; without one it is trained, exported and
            quantized, but not pruned or searched.
    """

    network: str
    structure: str = "bedside.models.structure:Structure"


ARCHITECTURES = {
    "hybrid": Architecture(
        "bedside.models.hybrid:Hybrid", "bedside.models.hybrid_structure:HybridStructure"
    ),
}


def create(spec: ModelSpec) -> nn.Module:
    """Build the network that `spec` describes, with fresh weights.

    Where the spec gives ranks, convolutions are products of smaller ones; where it gives bits,
    they compute with rounded weights.

    Raises:
        SpecError: If the architecture is not in the table or does not have what the spec asks
            of it, or ranks or bits are given for something that is no convolution of it.
    """
    model: nn.Module = _load(_find(spec).network)(spec)
    unknown = [] if hasattr(model, "supervise") else ["deep_supervision", "boundary"]
    unknown += ["hidden", "heads"] if _find(spec).structure == Architecture.structure else []
    if asked := [name for name in unknown if getattr(spec, name)]:
        raise SpecError(
            f'architecture "{spec.architecture}" has no {", ".join(asked)}: leave it out.'
        )
    factor_convolutions(model, spec.ranks)
    model = attach_bits(model, spec.bits)
    return model.to(memory_format=MEMORY_FORMATS[spec.spatial_dims])  # type: ignore[call-overload, no-any-return]


def find_structure(spec: ModelSpec) -> Structure:
    """Structure of a network: what of it can be pruned, merged and timed apart.

    Raises:
        SpecError: If the architecture is not in the table.
    """
    structure: Structure = _load(_find(spec).structure)(spec)
    return structure


def count_parameters(model: nn.Module) -> int:
    """Count the weights of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _find(spec: ModelSpec) -> Architecture:
    if spec.architecture not in ARCHITECTURES:
        raise SpecError(
            f'no architecture "{spec.architecture}"; choose one of {", ".join(ARCHITECTURES)}.'
        )
    return ARCHITECTURES[spec.architecture]


def _load(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)

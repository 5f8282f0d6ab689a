"""A network taken apart into the blocks whose times add up to its own.

A part is a module of the network with the shape of what goes into it, and a key that is the
same for all parts that take the same time: made from the shapes of its weights and from what
attention does with tokens, so that whatever a compression does to a block, the key knows.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from bedside.export.onnx import trace_quickly
from bedside.models import create
from bedside.models.hybrid import Hybrid, crop
from bedside.spec import LevelSpec, ModelSpec, to_mapping

# What weights' shapes tell already, or what says nothing about a single block.
_NOT_IN_KEY = ("channels", "depth", "mlp_ratio", "shared")


@dataclass(frozen=True)
class Block:
    """One part of a network.

    Attributes:
        name: Its path, such as "levels.2.0".
        key: What its time depends on, as a hash.
        about: The same in words, for a person who reads the table.
        module: The part, in evaluation mode.
        shape: (1, C, *S) of its input.
    """

    name: str
    key: str
    about: str
    module: nn.Module
    shape: tuple[int, ...]

    @property
    def probe_shape(self) -> tuple[int, ...]:
        """Shape of what goes into its graph: one value a channel."""
        return (*self.shape[:2], *[1] * (len(self.shape) - 2))

    def trace(self) -> bytes:
        """Turn it into a graph of its own; see `Probe`."""
        return trace_block(Probe(self.module, self.shape[2:]), self.probe_shape)

    def trace_frame(self) -> bytes:
        """Turn what its graph has around it into a graph: what is to be subtracted."""
        return trace_block(Probe(nn.Identity(), self.shape[2:]), self.probe_shape)


class Probe(nn.Module):
    """A part between a spread-out input and a mean, both inside the graph.

    So the runtime lays out what goes in and out as it likes, as inside a network. Given whole
    feature maps from outside, a light part would mostly be timed at turning their layout.

    Args:
        part: The part.
        sizes: Size of its input.
    """

    def __init__(self, part: nn.Module, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.part, self.sizes = part, sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (1, C, 1, 1) into the means of what the part gives."""
        given: torch.Tensor = self.part(functional.interpolate(x, size=self.sizes, mode="nearest"))
        return given.mean(dim=tuple(range(2, given.ndim)), keepdim=True)


class Fusion(nn.Module):
    """A step of the decoder: double the coarser level, and fuse.

    Args:
        fusion: What follows the sum of both levels.
        sizes: Size of the finer level.
    """

    def __init__(self, fusion: nn.Module, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.fusion, self.sizes = fusion, sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, *S / 2) into (B, C, *S)."""
        larger = crop(functional.interpolate(x, scale_factor=2.0, mode="nearest"), [*self.sizes])
        fused: torch.Tensor = self.fusion(larger)
        return fused


class Empty(nn.Module):
    """A network without work: it gives logits of the right shape, by one convolution.

    Args:
        spec: The network whose input and logits it has.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spec.spatial_dims]
        self.only = convolution(
            spec.in_channels, spec.num_classes, spec.logit_stride, stride=spec.logit_stride
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn images into logits."""
        logits: torch.Tensor = self.only(x)
        return logits


def list_blocks(spec: ModelSpec, size_px: tuple[int, ...]) -> list[Block]:
    """Take the network of a spec apart, with weights that say nothing.

    Args:
        spec: The network.
        size_px: Size of its input.
    """
    model = cast(Hybrid, create(spec).eval())
    return [
        _describe(name, module, level, (1, channels, *sizes))
        for name, module, level, channels, sizes in _list_blocks(model, spec, size_px)
    ]


def _list_blocks(
    model: Hybrid, spec: ModelSpec, size_px: tuple[int, ...]
) -> Iterator[tuple[str, nn.Module, LevelSpec | None, int, tuple[int, ...]]]:
    """Name each part, with its level, its input's channels and its input's size."""
    first, second = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[spec.stem_stride]
    half = _divide(size_px, first)
    yield "stem.0", model.stem[0], None, spec.in_channels, size_px
    yield "stem.1", model.stem[1], None, spec.stem_channels, half
    sizes = [_divide(half, second)]
    for index, level in enumerate(spec.levels):
        if index:
            fine = spec.levels[index - 1].channels
            yield f"downs.{index - 1}", model.downs[index - 1], None, fine, sizes[-1]
            sizes.append(_divide(sizes[-1], 2))
        for number, block in enumerate(cast(nn.Sequential, model.levels[index])):
            yield f"levels.{index}.{number}", block, level, level.channels, sizes[-1]
    for index, level in enumerate(spec.levels):
        yield f"laterals.{index}", model.laterals[index], None, level.channels, sizes[index]
    width = spec.decoder_channels
    for index in range(len(spec.levels) - 1):
        fusion = Fusion(model.fusions[index], sizes[index])
        yield f"fusions.{index}", fusion, None, width, sizes[index + 1]
    yield "head", model.head, None, width, sizes[0]


def _divide(sizes: tuple[int, ...], stride: int) -> tuple[int, ...]:
    return tuple(-(-size // stride) for size in sizes)


def _describe(
    name: str, module: nn.Module, level: LevelSpec | None, shape: tuple[int, ...]
) -> Block:
    """Return a part its key: kind, settings of attention, shapes of weights, shape of input."""
    settings: dict[str, Any] = {} if level is None else to_mapping(level)
    about = {
        "kind": type(module).__name__,
        "level": {key: value for key, value in settings.items() if key not in _NOT_IN_KEY},
        "weights": {
            key: list(value.shape)
            for key, value in module.state_dict().items()
            if key.endswith("weight") and value.ndim > 1
        },
        "input": list(shape),
    }
    text = json.dumps(about, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    block = f"{level.block} " if level is not None else ""
    widths = "-".join(str(shape[0]) for shape in about["weights"].values())  # type: ignore[attr-defined]
    words = f"{block}{about['kind']} {widths} at {'x'.join(map(str, shape[1:]))}"
    return Block(name, key, words, module.eval(), shape)


def trace_block(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    """Turn a module into a graph to be timed, and only that: what it computes is not looked at.

    Args:
        module: From one tensor to one, in evaluation mode; it is left as it was.
        shape: (1, C, *S).
    """
    graph: bytes = trace_quickly(module, torch.zeros(shape)).SerializeToString()
    return graph

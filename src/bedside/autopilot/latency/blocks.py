"""The blocks of a network, whose latencies add up to its own.

A block is a module of the network with the shape of its input, and a key that is the same for all
blocks of the same latency: a hash of the shapes of its weights and of the settings of attention.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bedside.export.onnx import trace_quickly
from bedside.models import create, find_structure
from bedside.models.structure import TimedModule
from bedside.spec import ModelSpec, to_mapping

# Settings that shapes of weights contain already, or that do not affect a single block.
_NOT_IN_KEY = ("channels", "depth", "mlp_ratio", "shared")


@dataclass(frozen=True)
class Block:
    """One block of a network.

    Attributes:
        name: Its path, such as "levels.2.0".
        key: What its time depends on, as a hash.
        about: The same in words.
        module: The block, in evaluation mode.
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
        """Turn the frame around it into a graph, whose time is to be subtracted."""
        return trace_block(Probe(nn.Identity(), self.shape[2:]), self.probe_shape)


class Probe(nn.Module):
    """A block between an upsampled input and a mean, both inside the graph.

    So the runtime chooses the layout of input and output, as inside a network. Given whole
    feature maps from outside, a light block would mostly be timed at changing their layout.

    Args:
        part: The block.
        sizes: Size of its input.
    """

    def __init__(self, part: nn.Module, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.part, self.sizes = part, sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (1, C, 1, 1) into the means of the output of the block."""
        given: torch.Tensor = self.part(functional.interpolate(x, size=self.sizes, mode="nearest"))
        return given.mean(dim=tuple(range(2, given.ndim)), keepdim=True)


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
    """Blocks of the network of a spec, with fresh weights.

    Args:
        spec: The network.
        size_px: Size of its input.
    """
    model = create(spec).eval()
    return [_describe(each) for each in find_structure(spec).list_timed(model, size_px)]


def _describe(timed: TimedModule) -> Block:
    """Block with its key: kind, settings of attention, shapes of weights and input."""
    name, module, level, channels, size = timed
    shape = (1, channels, *size)
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
    """Turn a module into a graph for timing; its results are not checked.

    Args:
        module: From one tensor to one, in evaluation mode; it is left as it was.
        shape: (1, C, *S).
    """
    graph: bytes = trace_quickly(module, torch.zeros(shape)).SerializeToString()
    return graph

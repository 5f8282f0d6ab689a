"""Training for 8 bits: a network that computes as its quantized graph will, and that graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from bedside.compression.quantize import prepare, quantize_model, restore_grids, tidy
from bedside.errors import UsageError
from bedside.layers.conv import Borrowed, Conv
from bedside.layers.rounding import Rounded, list_convolutions, round_convolution, round_to_bits
from bedside.models import TrainedNetwork
from bedside.spec import ModelSpec

_MOVES = ("Reshape", "Transpose")
_MOMENTUM = 0.01
"""How fast a range follows what training sees, a step."""


@dataclass
class InputRange:
    """What a convolution reads, in 8 bits: rounds it, as a hook before the convolution.

    It reaches to the mean of what images reach to, as in the quantizer that makes the graph:
    to the largest of all would give a level to what hardly ever occurs. While the network
    trains, it follows what is seen.

    Attributes:
        high: Largest magnitude that 8 bits reach.
        signed: Whether there are values below 0; without them all levels are above.
        watching: Whether values are only looked at, to find their range.
        images: How many have been looked at so.
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
        """Round what the convolution is about to read."""
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
    """Make a network compute in 8 bits where its quantized graph will, in place.

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


def read_ranges(model: nn.Module) -> dict[str, InputRange]:
    """List the range of what each convolution reads, by the convolution's path.

    One that is borrowed has its lender's.
    """
    ranges: dict[str, InputRange] = {}
    for path, module in model.named_modules():
        owner = module.shared_with if isinstance(module, Borrowed) else module
        if isinstance(owner, Conv):
            for hook in owner._forward_pre_hooks.values():
                if isinstance(hook, InputRange):
                    ranges[path] = hook
    return ranges


def detach(model: nn.Module, spec: ModelSpec) -> tuple[TrainedNetwork, dict[str, InputRange]]:
    """Take a trained network out of its 8 bits: weights on their grid, and the ranges.

    Args:
        model: As `attach` left it, trained on; it is made plain again, in place.
        spec: The network.

    Returns:
        The network, for `export_onnx`, and the ranges, for `quantize_int8_trained`.
    """
    ranges = read_ranges(model)
    for module in model.modules():
        hooks = module._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if isinstance(hook, InputRange)]:
            del hooks[key]
    return TrainedNetwork.of(round_to_bits(model), spec), ranges


def quantize_int8_trained(
    graph: bytes, calibration: Sequence[np.ndarray], ranges: Mapping[str, InputRange]
) -> bytes:
    """Turn the f32 graph of a network that was trained for 8 bits into one that computes so.

    The graph is quantized as by `quantize_int8`; weights keep the grid that they were
    trained on, and what convolutions read has the ranges that it had in training. What else is in
    8 bits, the sums of residual connections, has ranges from the calibration images.

    Args:
        graph: Serialized ONNX from `export_onnx`, of the network that `detach` gives.
        calibration: Tensors (1, C, *S) float32, preprocessed as in use.
        ranges: What `detach` gives.

    Returns:
        Serialized ONNX with QuantizeLinear and DequantizeLinear.

    Raises:
        UsageError: If there are no calibration images, one does not fit the graph, or the
            ranges are of another network.
    """
    model, weights = prepare(graph)
    paths = {
        n.name: n.input[1].removesuffix(".weight") for n in model.graph.node if n.name in weights
    }
    if not set(paths.values()) & set(ranges):
        raise UsageError(
            "no convolution of the graph has a range; expected those of the same network, "
            f"such as {', '.join(list(paths.values())[:2])}."
        )
    quantized = quantize_model(model, calibration)
    restore_grids(quantized, weights)
    _set_ranges(quantized, {name: ranges[path] for name, path in paths.items() if path in ranges})
    return tidy(quantized)


def _set_ranges(quantized: onnx.ModelProto, ranges: Mapping[str, InputRange]) -> None:
    """Return each quantizer before a convolution the widest range of those that it serves."""
    makers = {node.output[0]: node for node in quantized.graph.node}
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    widest: dict[str, float] = {}
    for node in quantized.graph.node:
        rescaled = makers.get(node.input[0]) if node.name in ranges else None
        while rescaled is not None and rescaled.op_type in _MOVES:
            rescaled = makers.get(rescaled.input[0])
        if rescaled is None or rescaled.op_type != "DequantizeLinear":
            continue
        scale, zero = rescaled.input[1], numpy_helper.to_array(tensors[rescaled.input[2]])
        # The graph says itself whether a value is signed; where it is not, 0 is its lowest.
        levels = 127 if zero.dtype == np.int8 else 255
        if not zero.any():
            widest[scale] = max(widest.get(scale, 0.0), ranges[node.name].high / levels)
    for scale, value in widest.items():
        shape = tuple(tensors[scale].dims)
        tensors[scale].CopyFrom(numpy_helper.from_array(np.full(shape, value, np.float32), scale))

"""Search for the layer at which the results of an export become wrong, by bisection."""

from collections.abc import Callable

import numpy as np

from bedside.export.certificate import FaultyLayer
from bedside.export.programs import Program, ProgramMaker

# Relative error of a layer by rounding alone, in each precision.
_ORDINARY = {"f32": 1e-5, "bf16": 4e-3, "int8": 2e-2}
# Logits with a smaller relative error, squared, are right.
_NOTHING = 1e-9

Runner = Callable[[Program, np.ndarray], np.ndarray]


def find_faulty_layer(
    reference: Program, made: Program, run: Runner, tensor: np.ndarray, *, precision: str
) -> FaultyLayer | None:
    """The first layer whose result differs from that of the network.

    Both are truncated after the same layer, one is converted and run as the export is, and the
    results are compared. A layer counts as wrong if its error is nearer to that of the logits
    than to rounding, on a logarithmic scale. Bisection needs log2(layers) conversions and ends
    at a wrong layer directly after a right one.

    Args:
        reference: The network in f32.
        made: The program that is converted: the same, or in fewer bits.
        run: Converts a program and runs it on a tensor.
        tensor: An input on which the export is wrong, (1, C, *S) float32.
        precision: Of the export.

    Returns:
        The layer; None if no layer can be compared, or the logits are right.
    """
    layers = [layer for layer in reference.layers if layer in made.layers]
    errors: dict[int, float] = {-1: 0.0}

    def error_at(index: int) -> float:
        if index not in errors:
            layer = layers[index]
            wanted = reference.cut(layer).predict(tensor)
            errors[index] = _relative(run(made.cut(layer), tensor), wanted)
        return errors[index]

    ordinary = _ORDINARY[precision]
    whole = _relative(run(made, tensor), reference.predict(tensor))
    if not layers or whole <= ordinary:
        return None
    threshold = float(np.sqrt(ordinary * whole))
    off = len(layers) - 1
    if error_at(off) < threshold:
        return FaultyLayer("logits", whole, layers[off], errors[off], len(errors))
    sound, off = _bisect(-1, off, lambda index: error_at(index) < threshold)
    before = layers[sound] if sound >= 0 else None
    return FaultyLayer(layers[off], errors[off], before, errors[sound], len(errors))


def find_sensitive_layer(
    reference: Program,
    make: ProgramMaker,
    run: Runner,
    tensor: np.ndarray,
    *,
    kept: tuple[str, ...],
) -> FaultyLayer | None:
    """The layer that contributes most to the error of an export in few bits.

    In few bits the error grows from layer to layer, so errors of layers do not separate one bad
    layer from the sum of many. Instead the first layers are computed in f32, and bisection finds
    the layer with which half of the squared error of the logits disappears. A layer that causes
    more than all others together is always found.

    Args:
        reference: The network in f32.
        make: Makes the program in few bits, with some layers in f32.
        run: Converts a program and runs it on a tensor.
        tensor: An input on which the export is wrong, (1, C, *S) float32.
        kept: Layers that are in f32 already.

    Returns:
        The layer; None if layers in f32 change nothing.
    """
    layers = [layer for layer in reference.layers if layer not in kept]
    wanted = reference.predict(tensor)
    errors: dict[int, float] = {}

    def error_with(count: int) -> float:
        if count not in errors:
            errors[count] = _relative(run(make((*kept, *layers[:count])), tensor), wanted)
        return errors[count]

    off, corrected = 0, len(layers)
    if not layers or error_with(off) ** 2 - error_with(corrected) ** 2 <= _NOTHING:
        return None
    threshold = (error_with(off) ** 2 + error_with(corrected) ** 2) / 2
    off, corrected = _bisect(off, corrected, lambda count: error_with(count) ** 2 > threshold)
    before = layers[off - 1] if off else None
    return FaultyLayer(
        layers[off], errors[off], before, errors[corrected], len(errors), restored=True
    )


def _bisect(low: int, high: int, is_low: Callable[[int], bool]) -> tuple[int, int]:
    """The last number that is low and the first that is not, of those from `low` to `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_low(middle) else (low, middle)
    return low, high


def _relative(seen: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of the right result; infinite if shapes differ.

    Example:
        >>> round(_relative(np.array([1.0, 2.0]), np.array([1.0, 1.0])), 4)
        0.7071
    """
    if seen.shape != wanted.shape:
        return float("inf")
    return float(np.linalg.norm(seen - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))

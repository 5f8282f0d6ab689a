"""Finding the layer where an export departs from its network, by halving."""

from collections.abc import Callable

import numpy as np

from bedside.export.certificate import Departure
from bedside.export.programs import Program

# What rounding alone leaves of a layer in each precision, as norm over norm.
_ORDINARY = {"f32": 1e-5, "bf16": 4e-3, "int8": 2e-2}

Runner = Callable[[Program, np.ndarray], np.ndarray]


def find_departure(
    meant: Program, made: Program, run: Runner, tensor: np.ndarray, *, precision: str
) -> Departure | None:
    """Name the layer where an export departs from its network.

    Both are cut off behind the same layer, the one is converted and run as the export is, and
    the results compared. A layer counts as off when its error is nearer to that at the end
    than to what rounding leaves, on a scale of powers. Halving needs log2(layers) conversions
    and ends at a layer that is off, right behind one that is not.

    Args:
        meant: The network as it is meant.
        made: What is converted: the same, or in fewer bits.
        run: Converts a program and runs it on a tensor.
        tensor: An input on which the export is wrong, (1, C, *S) float32.
        precision: Of the export.

    Returns:
        The layer; None if no layer can be compared, or the end is not off.
    """
    layers = [layer for layer in meant.layers if layer in made.layers]
    errors: dict[int, float] = {-1: 0.0}

    def error_at(index: int) -> float:
        if index not in errors:
            layer = layers[index]
            wanted = meant.cut(layer).predict(tensor)
            errors[index] = _relative(run(made.cut(layer), tensor), wanted)
        return errors[index]

    ordinary = _ORDINARY[precision]
    whole = _relative(run(made, tensor), meant.predict(tensor))
    if not layers or whole <= ordinary:
        return None
    threshold = float(np.sqrt(ordinary * whole))
    sound, off = -1, len(layers) - 1
    if error_at(off) < threshold:
        return Departure("logits", whole, layers[off], errors[off], len(errors))
    while off - sound > 1:
        middle = (sound + off) // 2
        if error_at(middle) < threshold:
            sound = middle
        else:
            off = middle
    before = layers[sound] if sound >= 0 else None
    return Departure(layers[off], errors[off], before, errors[sound], len(errors))


def _relative(seen: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of what is wanted; infinite if shapes differ.

    Example:
        >>> _relative(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == 0.5**0.5
        True
    """
    if seen.shape != wanted.shape:
        return float("inf")
    return float(np.linalg.norm(seen - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))

"""Finding the layer where an export departs from its network, by halving."""

from collections.abc import Callable

import numpy as np

from bedside.export.certificate import Departure
from bedside.export.programs import Program, ProgramMaker

# What rounding alone leaves of a layer in each precision, as norm over norm.
_ORDINARY = {"f32": 1e-5, "bf16": 4e-3, "int8": 2e-2}
# Logits that are off by less, with every layer in f32, are right.
_NOTHING = 1e-9

Runner = Callable[[Program, np.ndarray], np.ndarray]


def find_departure(
    reference: Program, made: Program, run: Runner, tensor: np.ndarray, *, precision: str
) -> Departure | None:
    """Name the layer where an export departs from its network.

    Both are cut off behind the same layer, the one is converted and run as the export is, and
    the results compared. A layer counts as off when its error is nearer to that at the end
    than to what rounding leaves, on a scale of powers. Halving needs log2(layers) conversions
    and ends at a layer that is off, right behind one that is not.

    Args:
        reference: The network as it is meant.
        made: What is converted: the same, or in fewer bits.
        run: Converts a program and runs it on a tensor.
        tensor: An input on which the export is wrong, (1, C, *S) float32.
        precision: Of the export.

    Returns:
        The layer; None if no layer can be compared, or the end is not off.
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


def find_culprit(
    reference: Program,
    make: ProgramMaker,
    run: Runner,
    tensor: np.ndarray,
    *,
    kept: tuple[str, ...],
) -> Departure | None:
    """Name the layer that an export in few bits suffers from most, by putting layers back.

    In few bits every layer is off by a little more than the one before, so that looking at
    layers does not tell a bad one from the sum of many. Instead the first layers are put into
    f32, and halving finds the one with which half of the error at the end, squared, is gone.
    A layer that causes more than all others together is found for certain.

    Args:
        reference: The network as it is meant.
        make: Makes it in few bits, with some layers in f32.
        run: Converts a program and runs it on a tensor.
        tensor: An input on which the export is wrong, (1, C, *S) float32.
        kept: Layers that are in f32 already.

    Returns:
        The layer; None if layers do not matter.
    """
    layers = [layer for layer in reference.layers if layer not in kept]
    wanted = reference.predict(tensor)
    errors: dict[int, float] = {}

    def error_with(count: int) -> float:
        if count not in errors:
            errors[count] = _relative(run(make((*kept, *layers[:count])), tensor), wanted)
        return errors[count]

    off, mended = 0, len(layers)
    if not layers or error_with(off) ** 2 - error_with(mended) ** 2 <= _NOTHING:
        return None
    threshold = (error_with(off) ** 2 + error_with(mended) ** 2) / 2
    while mended - off > 1:
        middle = (off + mended) // 2
        if error_with(middle) ** 2 > threshold:
            off = middle
        else:
            mended = middle
    before = layers[off - 1] if off else None
    return Departure(layers[off], errors[off], before, errors[mended], len(errors), restored=True)


def _relative(seen: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of what is wanted; infinite if shapes differ.

    Example:
        >>> round(_relative(np.array([1.0, 2.0]), np.array([1.0, 1.0])), 4)
        0.7071
    """
    if seen.shape != wanted.shape:
        return float("inf")
    return float(np.linalg.norm(seen - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))

"""Checks of tensors and logits that every runtime makes."""

import numpy as np

from bedside.errors import BackendError, InputError, last_line


def check_tensor(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the tensor as the runtimes take it: float32, contiguous, writeable, finite.

    A tensor that is so already is given back as it is, without a copy. Nothing writes to
    it, but OpenVINO shares no memory that it could not write to. NaN must be caught here:
    the ReLUs and the rounding of a network can turn it into numbers.

    Args:
        tensor: (B, C, *S), any B.
        shape: (C, *S) that the graph takes.

    Raises:
        InputError: If it holds no real numbers, the shape differs, or a value is NaN or
            infinite.
    """
    if not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in "biuf":
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise InputError(
            f"the tensor is of {kind}; the network takes an array of real numbers. "
            "Run the bundle's own preprocessing first."
        )
    if tensor.ndim != len(shape) + 1 or tensor.shape[1:] != shape or not len(tensor):
        raise InputError(
            f"the tensor has shape {tensor.shape}; the network takes {('B', *shape)}. "
            "Run the bundle's own preprocessing first."
        )
    with np.errstate(over="ignore"):  # what is too large is found below
        tensor = np.require(tensor, np.float32, ["C", "W"])
    _check_finite(tensor, "the tensor")
    return tensor


def check_out(out: np.ndarray, shape: tuple[int, ...], tensor: np.ndarray) -> np.ndarray:
    """Return the caller's array for logits if they can be written into it.

    Args:
        out: The array.
        shape: (B, K, *s) of the logits.
        tensor: What the network reads meanwhile; it must not share memory with `out`.

    Raises:
        InputError: If it is no float32 array of that shape, in C order, writeable and apart.
    """
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InputError(f"out is {found}; the logits are float32 {shape}. Pass such an array.")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise InputError("out must be aligned, writeable and in C order. Pass a new array.")
    if np.may_share_memory(out, tensor):
        raise InputError("out shares memory with the tensor. Pass an array of its own.")
    return out


def check_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logits if they are finite.

    Raises:
        InputError: If one is NaN or infinite.
    """
    _check_finite(logits, "the network's output")
    return logits


def make_backend_error(backend: str, error: Exception) -> BackendError:
    """Return an error with the last line of what a runtime reports."""
    last = last_line(error, otherwise=repr(error))
    return BackendError(f"{backend} cannot run this graph: {last}")


def _check_finite(values: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity; the sum is looked at first, which costs a third."""
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(np.add.reduce(values, axis=None))
    if suspicious and (bad := int(values.size - np.isfinite(values).sum())):
        raise InputError(
            f"{name} has {bad} of {values.size} values that are NaN or infinite. "
            "Look at the intensities of the input."
        )

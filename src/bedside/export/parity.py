"""Comparison of a graph with its torch model, in every installed backend."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bedside.errors import ExportError
from bedside.runtime import installed_backends, open_graph


def check_parity(
    graph: bytes, model: nn.Module, *, inputs: Sequence[np.ndarray], tolerance: float
) -> float:
    """Raise unless a graph gives the logits of a model in every installed backend.

    Args:
        graph: Serialized ONNX.
        model: The model that it was made from, in evaluation mode.
        inputs: Tensors (1, C, *S) float32.
        tolerance: Largest difference allowed, as a fraction of the largest logit (or of
            1, if all logits are smaller).

    Returns:
        The largest difference found, in the same unit.

    Raises:
        ExportError: If a difference is larger; it names the worst one.
    """
    with torch.inference_mode():
        expected = [model(torch.from_numpy(tensor)).numpy() for tensor in inputs]
    worst, description = 0.0, ""
    for backend in installed_backends():
        session = open_graph(graph, backend=backend, threads=torch.get_num_threads())
        for index, (tensor, wanted) in enumerate(zip(inputs, expected, strict=True)):
            difference, place = _compare(session.predict(tensor), wanted)
            if difference > worst:
                worst = difference
                description = f"at {place} of test input {index} in {backend}"
    if worst > tolerance:
        raise ExportError(
            f"the exported graph differs from torch by {worst:.2g} of the largest logit "
            f"{description}; at most {tolerance:g}. Nothing was written."
        )
    return worst


def make_inputs(shape: tuple[int, ...], *, count: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Test inputs of different kinds: zeros, ones, noise, and smooth shapes.

    Args:
        shape: (1, C, *S).
        count: Number of noisy ones and of smooth ones, together.
        seed: Seed of the noise.

    Returns:
        `count + 2` float32 tensors with values in [0, 1].
    """
    generator = np.random.default_rng(seed)
    inputs = [np.zeros(shape, np.float32), np.ones(shape, np.float32)]
    for index in range(count):
        noise = generator.random(shape, dtype=np.float32)
        if index % 2:
            smooth = _smooth(noise)
            noise = ((smooth - smooth.min()) / max(np.ptp(smooth), 1e-6)).astype(np.float32)
        inputs.append(noise)
    return inputs


def _smooth(noise: np.ndarray) -> np.ndarray:
    """Attenuate high frequencies along all spatial axes."""
    axes = tuple(range(2, noise.ndim))
    spectrum = np.fft.rfftn(noise, axes=axes)
    total = np.float64(1e-2)
    for axis in axes:
        frequency = np.abs(np.fft.fftfreq(noise.shape[axis]))[: spectrum.shape[axis]]
        total = total + frequency.reshape(-1, *[1] * (noise.ndim - 1 - axis))
    smooth: np.ndarray = np.fft.irfftn(spectrum / total ** len(axes), s=noise.shape[2:], axes=axes)
    return smooth


def _compare(seen: np.ndarray, wanted: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """The largest difference relative to the largest logit, and its index."""
    if seen.shape != wanted.shape:
        raise ExportError(f"the exported graph gives {seen.shape}, torch gives {wanted.shape}.")
    difference = np.abs(seen - wanted)
    place = np.unravel_index(int(difference.argmax()), difference.shape)
    scale = max(1.0, float(np.abs(wanted).max()))
    return float(difference[place]) / scale, tuple(int(axis) for axis in place)

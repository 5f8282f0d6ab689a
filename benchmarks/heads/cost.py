"""Processor time of both heads beside the network's own, in turns, in f32 on one thread."""

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from bedside.runtime.openvino import compile_settings, ov, the_core
from heads.diffusion import DiffusionHead
from heads.features import FeatureNetwork
from heads.graph import GraphHead
from heads.rings import RINGS, VERTICES, draw_scores, trace_logits

Call = Callable[[], Any]


class _LastPass(nn.Module):
    """A graph head that gives the positions of its last pass alone."""

    def __init__(self, head: GraphHead) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, rings_px: torch.Tensor, features: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor:
        return self.head(rings_px, features, logits)[-1]


class _Prepare(nn.Module):
    """The part of a diffusion head that all draws share."""

    def __init__(self, head: DiffusionHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return self.head.prepare(features, logits)


def compile_part(module: nn.Module, inputs: list[np.ndarray]) -> Call:
    """A module in OpenVINO on one thread, as a call on these inputs; the same as in torch.

    Raises:
        ValueError: If its results differ from torch's.
    """
    tensors = tuple(torch.from_numpy(each) for each in inputs)
    model = ov.convert_model(module.eval(), example_input=tensors)
    model.reshape({index: list(each.shape) for index, each in enumerate(inputs)})
    settings = compile_settings(precision="f32", threads=1)
    request = the_core().compile_model(model, "CPU", settings).create_infer_request()

    def call() -> list[np.ndarray]:
        return list(request.infer(inputs, share_inputs=True, share_outputs=True).values())

    with torch.inference_mode():
        wanted = module(*tensors)
    first = (wanted[0] if isinstance(wanted, tuple) else wanted).numpy()
    worst = float(np.abs(call()[0] - first).max())
    if worst > 1e-3 * max(1.0, float(np.abs(first).max())):
        raise ValueError(f"{type(module).__name__} differs by {worst:.3g} in OpenVINO.")
    return call


def time_heads(
    network: FeatureNetwork,
    graph: GraphHead,
    diffusion: DiffusionHead,
    example: np.ndarray,
    *,
    samples: int,
    runs: int = 60,
) -> dict[str, float]:
    """Median processor time of each part in ms.

    Args:
        network: The bundle's.
        graph: The graph head.
        diffusion: The diffusion head.
        example: (1, C, H, W) a real image.
        samples: Masks that are drawn at once.
        runs: Turns.
    """
    cv2.setNumThreads(1)
    with torch.inference_mode():
        logits, features = (each.numpy() for each in network(torch.from_numpy(example)))
    rings = trace_logits(logits[0])
    begin = [np.zeros((VERTICES, 2), np.float32) if each is None else each for each in rings]
    state = np.random.default_rng(0).standard_normal((samples, *logits.shape[1:]), np.float32)
    prepared = diffusion.prepare(torch.from_numpy(features), torch.from_numpy(logits))
    shared = prepared.detach().expand(samples, -1, -1, -1).contiguous().numpy()
    many = np.repeat(logits, samples, axis=0)
    moment = np.full(samples, 0.5, np.float32)
    assert len(rings) == len(RINGS)
    calls: dict[str, Call] = {
        "network": compile_part(network.network, [example]),
        "network with features": compile_part(network, [example]),
        "contours traced": lambda: trace_logits(logits[0]),
        "graph head": compile_part(_LastPass(graph), [np.stack(begin)[None], features, logits]),
        "contours filled": lambda: draw_scores(begin, logits.shape[2:]),
        "diffusion, shared part": compile_part(_Prepare(diffusion), [features, logits]),
        "diffusion, a step of all draws": compile_part(diffusion, [state, shared, many, moment]),
    }
    spans: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spans[name].append(time.process_time() - start)
    return {name: 1e3 * float(np.median(each)) for name, each in spans.items()}

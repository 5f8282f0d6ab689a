"""What studies of many small trainings share: files of results, times in turns, intervals."""

import functools
import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from bedside.export.onnx import trace_onnx
from bedside.models import count_parameters
from bedside.runtime import open_graph
from bedside.runtime.machine import describe_processor
from bedside.spec.card import Interval
from bedside.system.atomic import write_text

Key = TypeVar("Key", bound=Hashable)


def write_json(path: Path, content: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a result that is kept; without an indent in one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=indent) + "\n")


def time_in_turns(calls: Mapping[Key, Callable[[], Any]], *, rounds: int) -> dict[Key, list[float]]:
    """Milliseconds of processor time of each call, all in turns, one of each a round.

    Other work on the machine falls on all alike so, and waiting for it does not count.
    """
    spent: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            begin = time.process_time()
            call()
            spent[key].append(1000 * (time.process_time() - begin))
    return spent


def measure_networks(
    networks: Mapping[str, tuple[nn.Module, torch.Tensor]],
    *,
    precisions: Sequence[str],
    rounds: int,
    parts: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Measure milliseconds of networks by precision, all in turns, one thread; count parameters.

    Args:
        networks: Name of each -> the network, and an input.
        precisions: "f32", "bf16" or both.
        rounds: How often each is called; medians are kept.
        parts: By how much the time of a call is divided, such as its slices; 1 if None.
    """
    calls, counts = {}, {}
    for name, (model, example) in networks.items():
        counts[name] = count_parameters(model)
        graph = trace_onnx(model.eval(), example).SerializeToString()
        for precision in precisions:
            session = open_graph(graph, backend="openvino", threads=1, precision=precision)
            calls[name, precision] = functools.partial(session.predict, example.numpy())
    spent = time_in_turns(calls, rounds=rounds)
    ms = {
        name: {p: float(np.median(spent[name, p])) / (parts or {}).get(name, 1) for p in precisions}
        for name in networks
    }
    return {
        "processor": describe_processor(),
        "rounds": rounds,
        "parameters": counts,
        "median_ms": {
            name: {p: round(value, 3) for p, value in of_name.items()}
            for name, of_name in ms.items()
        },
    }


def show_interval(interval: Interval, *, sign: str) -> str:
    """A mean, and its interval if it has one, with `sign` as in a format."""
    text = f"{interval.mean:{sign}.4f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"

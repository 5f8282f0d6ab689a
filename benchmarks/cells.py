"""What studies of many small trainings share: options, files of results, times in turns, tables."""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from bedside.evaluation.report import markdown_table
from bedside.export.onnx import trace_onnx
from bedside.models import count_parameters
from bedside.runtime import open_graph
from bedside.runtime.machine import describe_processor
from bedside.segment import Segmenter
from bedside.spec import ModelSpec, Recipe
from bedside.spec.card import Interval
from bedside.system.atomic import write_text
from bedside.training.checkpoint import read_json

Key = TypeVar("Key", bound=Hashable)


class NamedCell(Protocol):
    """One training of a study."""

    @property
    def name(self) -> str:
        """Name of its run folder and its result."""


CellT = TypeVar("CellT", bound=NamedCell)


def study_parser(about: str, *, script: Path, results: str, rounds: int) -> argparse.ArgumentParser:
    """Options that all studies have.

    Args:
        about: What the study does, in a line.
        script: Its file; its page lies beside it.
        results: Name of the folder of its results.
        rounds: How often networks are timed, unless told otherwise.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, help="folder of the data set, if not the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs") / script.stem)
    parser.add_argument("--cache", type=Path, help="folder of preprocessed images")
    parser.add_argument("--cost", action="store_true", help="measure milliseconds, train nothing")
    parser.add_argument("--show", action="store_true", help="name what is left, and run nothing")
    parser.add_argument("--table-only", action="store_true", help="write the page from the files")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--results", type=Path, default=script.parent / "results" / results)
    parser.add_argument("--output", type=Path, default=script.with_suffix(".md"))
    return parser


def run_study(
    arguments: argparse.Namespace,
    cells: Sequence[CellT],
    *,
    train: Callable[[CellT], None],
    measure: Callable[[], Mapping[str, Any]],
    write_page: Callable[[dict[str, Any] | None], str],
) -> None:
    """Do what the options of a study ask for.

    Args:
        arguments: As `study_parser` reads them.
        cells: The trainings, in their order.
        train: Trains one, or goes on with it; one that is done stays as it is.
        measure: Measures what the networks cost.
        write_page: Makes the page, from what was measured, or None.
    """
    if arguments.show:
        for cell in cells:
            done = (arguments.results / f"{cell.name}.json").exists()
            print(f"{'done ' if done else 'waits'} {cell.name}")
        return
    cost = arguments.results / "cost.json"
    if arguments.cost:
        write_json(cost, measure())
    elif not arguments.table_only:
        torch.set_num_threads(1)
        for cell in cells:
            train(cell)
    write_text(arguments.output, write_page(read_json(cost) if cost.exists() else None))


def change_levels(
    model: ModelSpec,
    depths: Sequence[int],
    changes: Mapping[int, Mapping[str, Any]] = MappingProxyType({}),
) -> ModelSpec:
    """A network with other depths, and other settings of some levels.

    Args:
        model: The network.
        depths: Blocks of each level.
        changes: Settings of a level that differ, by its number.
    """
    levels = (
        dataclasses.replace(level, depth=depth, **changes.get(number, {}))
        for number, (level, depth) in enumerate(zip(model.levels, depths, strict=True))
    )
    return dataclasses.replace(model, levels=tuple(levels))


def open_network(model: nn.Module, recipe: Recipe) -> Segmenter:
    """Export a trained network, and open it as a user's computer does."""
    example = torch.rand(1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    graph = trace_onnx(model.eval(), example).SerializeToString()
    session = open_graph(graph, backend="openvino", threads=1, precision="f32")
    return Segmenter(recipe.deployment, session)


def make_table(rows: Sequence[list[str]]) -> list[str]:
    """Lines of a table, whose first row is its heading."""
    return markdown_table(rows[0], rows[1:])


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

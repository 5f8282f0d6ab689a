"""Latencies of blocks on this machine: a table that is measured once and kept.

The table lies in the user's cache folder under the machine's fingerprint, and is not used
under another one. All times are relative to one reference convolution that is timed again with
every batch of new blocks, so that a batch timed on a busy machine fits the rest.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bedside.autopilot.latency.blocks import Block, list_blocks, trace_block
from bedside.autopilot.latency.timing import Clock, Setting, Timed, time_graphs
from bedside.autopilot.latency.uncalibrated_int8 import quantize_uncalibrated
from bedside.errors import OutputError, UsageError
from bedside.runtime.machine import fingerprint
from bedside.spec import ModelSpec, named_spec
from bedside.system.atomic import write_text
from bedside.system.cache import cache_folder

_SCHEMA = 2
_YARDSTICK = "yardstick"
# Seconds that a block is timed for, when many are timed interleaved.
_SECONDS_A_BLOCK = 0.15
_BATCH = 24
"""Blocks that are timed in the same turns."""


@dataclass(frozen=True)
class Fit:
    """From the sum of a network's blocks to its time: `offset + slope * sum`.

    Attributes:
        offset_ms: What a call takes beyond its blocks.
        slope: What a block costs inside a network, over what it costs alone: less than 1
            where caches stay warm and operations join.
        errors: For each network that it was fitted to, relative error of its prediction by a
            fit to the others; empty for fewer than three.
    """

    offset_ms: float
    slope: float
    errors: Mapping[str, float]

    def predict(self, total_ms: float) -> float:
        """Return the time of a network whose blocks take `total_ms` alone."""
        return self.offset_ms + self.slope * total_ms


class DeviceTable:
    """Times of blocks on this machine, in one setting.

    Args:
        setting: Runtime, precision and threads.
        folder: Where tables are kept; None for the user's cache folder.
        clock: How graphs are timed.
    """

    def __init__(
        self, setting: Setting, *, folder: Path | None = None, clock: Clock = time_graphs
    ) -> None:
        self.setting, self._clock = setting, clock
        machine = fingerprint()
        place = folder or cache_folder()
        self.path = None if place is None else place / f"blocks-{machine}.json"
        self._content = _read(self.path, machine)

    @property
    def times_ms(self) -> Mapping[str, float]:
        """Time of each block by key, without what any call takes."""
        return {key: entry["ms"] for key, entry in self._own["blocks"].items()}

    @property
    def _own(self) -> dict[str, Any]:
        """What is known in this setting."""
        own: dict[str, Any] = self._content["settings"].setdefault(
            self.setting.key, {"blocks": {}, "networks": {}, "yardstick_ms": None}
        )
        return own

    def measure(self, specs: Sequence[ModelSpec], size_px: tuple[int, ...]) -> int:
        """Time all blocks of some networks that are not in the table yet, and keep the table.

        Args:
            specs: The networks.
            size_px: Size of their input.

        Returns:
            How many blocks were timed.
        """
        missing: dict[str, Block] = {}
        for spec in specs:
            for part in list_blocks(spec, size_px):
                if part.key not in self._own["blocks"]:
                    missing.setdefault(part.key, part)
        parts = list(missing.values())
        for begin in range(0, len(parts), _BATCH):
            self._measure_batch(parts[begin : begin + _BATCH])
            self.save()
        return len(parts)

    def _measure_batch(self, parts: Sequence[Block]) -> None:
        graphs = {part.key: self._timed(part.trace(), part.probe_shape) for part in parts}
        frames = {part.shape: self._timed(part.trace_frame(), part.probe_shape) for part in parts}
        graphs |= {f"frame {shape}": timed for shape, timed in frames.items()}
        name, graph, shape = _yardstick()
        graphs[name] = self._timed(graph, shape)
        times = self._clock(graphs, _SECONDS_A_BLOCK * len(graphs))
        now = times[_YARDSTICK]
        known = self._own["yardstick_ms"] = self._own["yardstick_ms"] or now
        for part in parts:
            alone = max(0.0, times[part.key] - times[f"frame {part.shape}"]) * known / now
            self._own["blocks"][part.key] = {"ms": round(alone, 6), "about": part.about}

    def _timed(self, graph: bytes, shape: tuple[int, ...]) -> Timed:
        """Graph with the setting of the table."""
        if self.setting.precision == "int8":
            graph = quantize_uncalibrated(graph)
        return Timed(graph, shape, self.setting)

    def add_network(self, name: str, spec: ModelSpec, size_px: tuple[int, ...], ms: float) -> None:
        """Remember the time of a whole network, for the fit; its blocks must be in the table.

        Args:
            name: What it is called.
            spec: The network.
            size_px: Size of its input.
            ms: Its measured time, by the same reference.
        """
        shape = "x".join(map(str, size_px))
        self._own["networks"][f"{name} at {shape}"] = {
            "sum_ms": self.add_up(spec, size_px),
            "ms": ms,
        }
        self.save()

    def calibrate(self, spec: ModelSpec, size_px: tuple[int, ...]) -> Fit:
        """Time the named networks with a network's input and classes, unless that was done.

        Args:
            spec: For its axes, input and classes.
            size_px: Size of the input.

        Returns:
            The fit; see `fit`.
        """
        shape = "x".join(map(str, size_px))
        wanted = {
            name: named_spec(
                name,
                spatial_dims=spec.spatial_dims,
                in_channels=spec.in_channels,
                num_classes=spec.num_classes,
            )
            for name in ("nano", "tiny", "small")
        }
        missing = {
            name: each
            for name, each in wanted.items()
            if f"{name} at {shape}" not in self._own["networks"]
        }
        if missing:
            self.measure(list(missing.values()), size_px)
            for name, ms in self.time_whole(missing, size_px).items():
                self.add_network(name, missing[name], size_px, ms)
        return self.fit(size_px)

    def time_whole(
        self, specs: Mapping[str, ModelSpec], size_px: tuple[int, ...]
    ) -> dict[str, float]:
        """Time networks with fresh weights, in ms relative to the table's reference."""
        from bedside.models import create

        graphs = {}
        for name, spec in specs.items():
            shape = (1, spec.in_channels, *size_px)
            graphs[name] = self._timed(trace_block(create(spec).eval(), shape), shape)
        name, graph, shape = _yardstick()
        graphs[name] = self._timed(graph, shape)
        times = dict(self._clock(graphs, 3.0))
        now = times.pop(_YARDSTICK)
        known = self._own["yardstick_ms"] = self._own["yardstick_ms"] or now
        return {name: ms * known / now for name, ms in times.items()}

    def fit(self, size_px: tuple[int, ...]) -> Fit:
        """Fit times of whole networks of one size of input to the sums of their blocks.

        Raises:
            UsageError: If no network of that size was timed.
        """
        shape = "x".join(map(str, size_px))
        networks = {
            name: (each["sum_ms"], each["ms"])
            for name, each in self._own["networks"].items()
            if name.endswith(f" at {shape}")
        }
        if not networks:
            raise UsageError(f"no network with an input of {shape} was timed; calibrate first.")
        return fit_line(networks)

    def add_up(self, spec: ModelSpec, size_px: tuple[int, ...]) -> float:
        """Sum the times of a network's blocks, in ms; all of them must be in the table."""
        blocks = self._own["blocks"]
        return float(sum(blocks[part.key]["ms"] for part in list_blocks(spec, size_px)))

    def save(self) -> None:
        """Write the table, with what other processes have added to it meanwhile.

        Where the cache folder cannot be written to, the table lasts as long as this object.
        """
        here = _read(self.path, self._content["fingerprint"])
        for key, theirs in here["settings"].items():
            own = self._content["settings"].setdefault(key, theirs)
            for kind in ("blocks", "networks"):
                own[kind] = {**theirs[kind], **own[kind]}
        if self.path is not None:
            with contextlib.suppress(OutputError):
                write_text(self.path, json.dumps(self._content, indent=1, sort_keys=True))


def fit_line(networks: Mapping[str, tuple[float, float]]) -> Fit:
    """Fit a line through (sum of blocks, time of the network), relative errors squared.

    With fewer than two networks, or where the line falls below zero, it goes through zero.

    Example:
        >>> fit = fit_line({"a": (1.0, 1.5), "b": (2.0, 2.5), "c": (4.0, 4.5)})
        >>> round(fit.offset_ms, 3), round(fit.slope, 3), round(fit.errors["b"], 3)
        (0.5, 1.0, 0.0)
    """
    errors = {}
    if len(networks) > 2:
        for name, (total, ms) in networks.items():
            others = {key: value for key, value in networks.items() if key != name}
            offset, slope = _line(list(others.values()))
            errors[name] = (offset + slope * total) / ms - 1
    offset, slope = _line(list(networks.values()))
    return Fit(offset, slope, errors)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    totals, times = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    if len(points) > 1:
        left = np.stack([1 / times, totals / times], axis=1)
        offset, slope = np.linalg.lstsq(left, np.ones(len(points)), rcond=None)[0]
        if offset >= 0 and slope > 0:
            return float(offset), float(slope)
    shares = totals / times
    return 0.0, float(shares.sum() / (shares**2).sum())


def _read(path: Path | None, machine: str) -> dict[str, Any]:
    """Read the table of this machine; one of another machine or layout counts as none."""
    empty: dict[str, Any] = {"schema": _SCHEMA, "fingerprint": machine, "settings": {}}
    if path is None:
        return empty
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return empty
    if not isinstance(content, dict) or content.get("fingerprint") != machine:
        return empty
    return content if content.get("schema") == _SCHEMA else empty


def _yardstick() -> tuple[str, bytes, tuple[int, ...]]:
    """The reference convolution."""
    torch.manual_seed(0)
    module, shape = nn.Conv2d(32, 32, 3, padding=1).eval(), (1, 32, 48, 48)
    return _YARDSTICK, trace_block(module, shape), shape

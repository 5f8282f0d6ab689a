"""What studies of many small trainings share: files of results, times in turns, intervals."""

import json
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

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


def show_interval(interval: Interval, *, sign: str) -> str:
    """A mean, and its interval if it has one, with `sign` as in a format."""
    text = f"{interval.mean:{sign}.4f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"

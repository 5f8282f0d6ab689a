"""Time per stage, for stages that call each other."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import ParamSpec, TypeVar, cast

from bedside.volume import ImageSequence

Given = ParamSpec("Given")
Result = TypeVar("Result")

_END = object()


class Stopwatch:
    """Time of several stages, each without the stages it called.

    Args:
        stages: Their names.

    Attributes:
        spent_ms: Time of each stage so far, in ms.

    Example:
        >>> watch = Stopwatch(("a", "b"))
        >>> with watch.running("a"):
        ...     watch.time_calls(time.sleep, "b")(0.002)
        >>> watch.spent_ms["b"] >= 2 > watch.spent_ms["a"]
        True
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.spent_ms = dict.fromkeys(stages, 0.0)
        self._inner_ms = [0.0]

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Count the time of the block as a stage's."""
        begin = time.perf_counter()
        self._inner_ms.append(0.0)
        try:
            yield
        finally:
            span = 1e3 * (time.perf_counter() - begin)
            self.spent_ms[stage] += span - self._inner_ms.pop()
            self._inner_ms[-1] += span

    def time_calls(self, call: Callable[Given, Result], stage: str) -> Callable[Given, Result]:
        """Wrap a function so that its time is counted as a stage's."""

        def timed(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            with self.running(stage):
                return call(*args, **kwargs)

        return timed

    def time_items(self, items: Iterator[Result], stage: str) -> Iterator[Result]:
        """Yield the items of an iterator; the time that each is waited for is a stage's."""
        while True:
            with self.running(stage):
                item = next(items, _END)
            if item is _END:
                return
            yield cast(Result, item)

    def time_frames(self, sequence: ImageSequence, stage: str) -> ImageSequence:
        """Wrap a sequence so that the decoding of its frames is counted as a stage's."""
        return replace(sequence, decode=self.time_calls(sequence.decode, stage))

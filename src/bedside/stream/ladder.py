"""Which execution mode runs: a faster one when the deadline comes near, and back with hysteresis.

All of them are certified by the bundle's card; each is opened and timed once, at the start.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bedside.bundle import Bundle
from bedside.pipeline.frames.pipeline import FramePipeline
from bedside.pipeline.refine import refine_logits
from bedside.runtime import Session
from bedside.runtime.execution_modes import certified_modes, open_mode

_CALLS, _WARM_CALLS = 7, 2
_FASTER = 0.9
"""A rung is kept if it takes at most this part of the time of the rung above."""
_WINDOW_S = 1.0
_FEWEST = 5
_DOWN, _UP = 0.8, 0.5
"""Parts of the deadline: the p95 at which it steps down, and that expected of the rung above."""
_UP_AFTER_S, _LONGEST_UP_S = 2.0, 60.0


@dataclass(frozen=True)
class Rung:
    """One way to run the bundle.

    Attributes:
        name: Backend, precision, and what is left out.
        pipeline: Its steps.
        expected_ms: Time of the network, with refinement, as timed at the start.
    """

    name: str
    pipeline: FramePipeline
    expected_ms: float


def open_rungs(bundle: Bundle, session: Session) -> tuple[list[Rung], int, list[Session]]:
    """Open and time the certified ways to run a bundle, the one that is loaded first.

    Only modes of the same backend are taken: two runtimes would disturb each other's threads. The
    last rung is the fastest one with a single thread, for a machine whose other cores are busy.

    Args:
        bundle: The bundle.
        session: What is loaded; stays open.

    Returns:
        All ways to run it; how many of them are rungs, each of these faster than the one before
        but for that with one thread; and the sessions that were opened for them.
    """
    spec = bundle.spec
    opened = [
        open_mode(bundle, mode, threads=session.threads)
        for mode in certified_modes(bundle, backend=session.backend)
        if mode != (session.backend, session.precision)
    ]
    shape = (1, spec.input.channels, *spec.input.size_px)
    tensor = np.random.default_rng(0).random(shape, np.float32)
    rungs = []
    for each in (session, *opened):
        logits = each.predict(tensor)
        ms = _time_ms(partial(each.predict, tensor, logits))
        name, refine_ms = f"{each.backend} {each.precision}", 0.0
        if spec.refine:
            stride = spec.model.logit_stride
            refine_ms = _time_ms(
                partial(refine_logits, logits[0], tensor, spec.refine, stride=stride)
            )
            plain = FramePipeline(replace(spec, refine=()), each)
            rungs.append(Rung(f"{name} without refinement", plain, ms))
        rungs.append(Rung(name, FramePipeline(spec, each), ms + refine_ms))
    first = next(rung for rung in rungs if rung.name == f"{session.backend} {session.precision}")
    kept = [first]
    for rung in sorted(rungs, key=lambda rung: -rung.expected_ms):
        if rung.expected_ms <= _FASTER * kept[-1].expected_ms:
            kept.append(rung)
    if session.threads > 1:
        # Threads that wait for each other wait the longer, the more of the cores others take.
        mode = kept[-1].pipeline.session
        alone = open_mode(bundle, (mode.backend, mode.precision), threads=1)
        opened.append(alone)
        ms = _time_ms(partial(alone.predict, tensor))
        kept.append(
            Rung(f"{kept[-1].name}, 1 thread", FramePipeline(kept[-1].pipeline.spec, alone), ms)
        )
    return [*kept, *(rung for rung in rungs if rung not in kept)], len(kept), opened


class DeadlineLadder:
    """Chooses a rung from the times of the frames of the last second.

    It steps down when their p95 passes 80 % of the deadline, and up again when the rung above is
    expected to take at most half of it, at least 2 s after the last step; each time that a step
    up is taken back, it waits twice as long for the next one.

    Args:
        expected_ms: Time of each rung, each shorter than the one before.
        deadline_ms: From the arrival of a frame to its mask.

    Attributes:
        index: The rung that runs, 0 the first.
    """

    def __init__(self, expected_ms: Sequence[float], *, deadline_ms: float) -> None:
        self._expected_ms, self._deadline_ms = tuple(expected_ms), deadline_ms
        self.index = 0
        self._spans: deque[tuple[float, float]] = deque()
        self._stepped_s = float("-inf")
        self._was_up = False
        self._up_after_s = _UP_AFTER_S

    def note(self, now_s: float, total_ms: float) -> str:
        """Note the time of a frame.

        Args:
            now_s: Time by a clock that only runs forwards.
            total_ms: From its arrival to its mask.

        Returns:
            Why another rung runs from now on; "" if it is the same.
        """
        spans = self._spans
        spans.append((now_s, total_ms))
        while now_s - spans[0][0] > _WINDOW_S:
            spans.popleft()
        if len(spans) < _FEWEST:
            return ""
        p95 = float(np.percentile([span for _, span in spans], 95))
        waited_s = now_s - self._stepped_s
        if p95 > _DOWN * self._deadline_ms:
            if self.index + 1 == len(self._expected_ms):
                return ""
            if self._was_up and waited_s < 2 * self._up_after_s:
                self._up_after_s = min(2 * self._up_after_s, _LONGEST_UP_S)
            return self._step(1, now_s, p95)
        if self.index == 0 or waited_s < self._up_after_s:
            return ""
        above, current = self._expected_ms[self.index - 1], self._expected_ms[self.index]
        if p95 * above / current > _UP * self._deadline_ms:
            return ""
        return self._step(-1, now_s, p95)

    def _step(self, by: int, now_s: float, p95: float) -> str:
        self.index += by
        self._stepped_s, self._was_up = now_s, by < 0
        self._spans.clear()
        way = "down" if by > 0 else "up"
        return f"stepped {way}: p95 is {p95:.1f} ms of {self._deadline_ms:g} ms"


def _time_ms(call: Callable[[], object]) -> float:
    """Shortest of some calls in ms, which other work disturbs the least."""
    spans = []
    for _ in range(_WARM_CALLS + _CALLS):
        begin = time.perf_counter()
        call()
        spans.append(1e3 * (time.perf_counter() - begin))
    return min(spans[_WARM_CALLS:])

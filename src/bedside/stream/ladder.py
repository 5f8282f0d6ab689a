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
from bedside.pipeline.gate import GateJudge
from bedside.pipeline.protocol import Pipeline
from bedside.pipeline.refine import refine_logits
from bedside.runtime import Session
from bedside.runtime.execution_modes import certified_modes, open_mode
from bedside.spec import DeploymentSpec

_CALLS, _WARM_CALLS = 7, 2
_FASTER = 0.9
"""A rung is kept if it takes at most this part of the time of the rung above."""
_ALONE = 0.25
"""Part of the deadline that the network may take with one thread for the stream to begin so."""
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


def open_rungs(
    bundle: Bundle, session: Session, *, deadline_ms: float, like: Pipeline | None = None
) -> tuple[list[Rung], int, list[Session]]:
    """Open and time the certified ways to run a bundle.

    Only modes of the same backend are taken: two runtimes would disturb each other's threads. A
    stream begins in the mode that is loaded, with a single thread if that takes at most a quarter
    of the deadline: threads of a runtime wait for each other, and the longer the more of the cores
    others take. Else all threads come first, and one thread last.

    Args:
        bundle: The bundle.
        session: What is loaded; stays open.
        deadline_ms: Time from the arrival of a frame to its mask.
        like: Pipeline whose gate and calibration they get; None for neither.

    Returns:
        All ways to run it; how many of them are rungs, each of these faster than the one before
        but for a last one with one thread; and the sessions that were opened for them.
    """
    others = () if session.is_shared else certified_modes(bundle, backend=session.backend)
    opened = [
        open_mode(bundle, mode, threads=session.threads)
        for mode in others
        if mode != (session.backend, session.precision)
    ]
    rungs = []
    for each in (session, *opened):
        if bundle.spec.refine:
            plain = replace(bundle.spec, refine=())
            rungs.append(_time_rung(plain, each, like, suffix=" without refinement"))
        rungs.append(_time_rung(bundle.spec, each, like))
    first = next(rung for rung in rungs if rung.name == f"{session.backend} {session.precision}")
    kept = _sort_faster([first, *sorted(rungs, key=lambda rung: -rung.expected_ms)])
    if session.threads > 1 and not session.is_shared:
        alone = []
        for rung in dict.fromkeys((kept[0], kept[-1])):
            mode = rung.pipeline.session.backend, rung.pipeline.session.precision
            opened.append(open_mode(bundle, mode, threads=1))
            suffix = f"{rung.name.removeprefix(' '.join(mode))}, 1 thread"
            alone.append(_time_rung(rung.pipeline.spec, opened[-1], like, suffix=suffix))
        rungs += alone
        is_enough = alone[0].expected_ms <= _ALONE * deadline_ms
        kept = _sort_faster(alone) if is_enough else [*kept, alone[-1]]
    return [*kept, *(rung for rung in rungs if rung not in kept)], len(kept), opened


def _time_rung(
    spec: DeploymentSpec, session: Session, like: Pipeline | None, *, suffix: str = ""
) -> Rung:
    """Time a way to run a bundle, network and refinement."""
    shape = (1, spec.input.channels, *spec.input.size_px)
    tensor = np.random.default_rng(0).random(shape, np.float32)
    logits = session.predict(tensor)
    ms = _time_ms(partial(session.predict, tensor, logits))
    if spec.refine:
        stride = spec.model.logit_stride
        ms += _time_ms(partial(refine_logits, logits[0], tensor, spec.refine, stride=stride))
    name = f"{session.backend} {session.precision}{suffix}"
    gate = like.judge.gate if like and like.judge else None
    confidence = like.estimator.confidence if like and like.estimator else None
    return Rung(name, FramePipeline(spec, session, gate, confidence), ms)


def _sort_faster(rungs: Sequence[Rung]) -> list[Rung]:
    """Keep the first, and of the others those that are each clearly faster than the one before."""
    kept = [rungs[0]]
    for rung in rungs[1:]:
        if rung.expected_ms <= _FASTER * kept[-1].expected_ms:
            kept.append(rung)
    return kept


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


def time_judge(judge: GateJudge, spec: DeploymentSpec) -> float:
    """Time a gate, in ms for a frame."""
    random, coarse = np.random.default_rng(0), spec.model.logit_stride
    tensor = random.random((spec.input.channels, *spec.input.size_px), np.float32)
    logits = random.random(
        (spec.model.num_classes, *(size // coarse for size in spec.input.size_px)), np.float32
    )
    return _time_ms(partial(judge.judge, tensor, logits))


def _time_ms(call: Callable[[], object]) -> float:
    """Shortest of some calls in ms, which other work disturbs the least."""
    spans = []
    for _ in range(_WARM_CALLS + _CALLS):
        begin = time.perf_counter()
        call()
        spans.append(1e3 * (time.perf_counter() - begin))
    return min(spans[_WARM_CALLS:])

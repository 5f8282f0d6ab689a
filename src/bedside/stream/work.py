"""The way of one frame through a stream: decode, check, plan, segment, measure."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bedside.errors import FormatError, InputError
from bedside.pipeline.confidence import ConfidenceEstimator, distrust, name_untrusted
from bedside.pipeline.frames.pipeline import FrameBuffers, FramePipeline
from bedside.pipeline.frames.plan import FramePlan
from bedside.pipeline.postprocess import LabelGrid
from bedside.pipeline.scaled_region import describe_beside
from bedside.spec import DeploymentSpec
from bedside.stream.event import Event, State
from bedside.stream.frames import FrameCopies, decode_payload
from bedside.stream.gate import GateWatch
from bedside.stream.heart import BeatFinder
from bedside.stream.ladder import DeadlineLadder, Rung
from bedside.stream.measure import measure_frame
from bedside.stream.planner import CausalPlanner, Settled
from bedside.stream.protocol import ScaledFrame
from bedside.stream.slot import Arrived, Payload
from bedside.stream.steady import SteadyLogits
from bedside.volume import Box

_SAME_SCALE = 1e-4
"""Senders state a direction times a length in float32, which changes as a probe turns."""
_FREE, _EVERY = 0.5, 4
"""Part of the time between frames that work beside them may fill; every so many frames it gets one
call of the network where there is no such time."""


@dataclass(frozen=True)
class How:
    """How a frame is worked off.

    Attributes:
        rung: What runs, instead of what the ladder chooses.
        settled: What has taken effect of the work beside the frames, instead of what is done.
        may_wait: Whether a frame that comes faster than by its own time may wait for its plan.
    """

    rung: Rung | None = None
    settled: Settled | None = None
    may_wait: bool = False


@dataclass(frozen=True)
class Extras:
    """Optional parts of the way of a frame.

    Attributes:
        steady: Blends logits over time; None to take each frame by itself.
        gate: Finds frames that the network was not made for; None to judge none.
        estimator: What the bundle is calibrated for; None for nothing.
        region: Part of the frames that the given distance of pixels belongs to; None for all.
    """

    steady: SteadyLogits | None = None
    gate: GateWatch | None = None
    estimator: ConfidenceEstimator | None = None
    region: Box | None = None


class FrameWork:
    """Turns frames into events, one after the other, by one thread at a time.

    Args:
        spec: The bundle's.
        rungs: Ways to run it, each faster than the one before.
        planner: Plans the preprocessing.
        copies: Where the frames' memory goes back to.
        deadline_ms: Time from the arrival of a frame to its mask.
        spacing_mm: (row, column) distance of pixels of the first frames; None if unknown. A frame
            that brings its own has that, and one of another size has none.
        warnings: Sentences that go into every event.
        extras: Optional parts; None for none.
    """

    def __init__(
        self,
        spec: DeploymentSpec,
        rungs: Sequence[Rung],
        planner: CausalPlanner,
        copies: FrameCopies,
        *,
        deadline_ms: float,
        spacing_mm: tuple[float, float] | None,
        warnings: tuple[str, ...],
        extras: Extras | None = None,
    ) -> None:
        self._spec, self._rungs, self._planner, self._copies = spec, rungs, planner, copies
        self._deadline_ms, self._warnings = deadline_ms, warnings
        extras = extras or Extras()
        self._steady, self._gate, self._estimator = extras.steady, extras.gate, extras.estimator
        self._region = extras.region
        self._judged: FramePlan | None = None
        self._given_mm = self._spacing_mm = spacing_mm
        self._given_size: tuple[int, ...] | None = None  # of the frames that it was given for
        self._grid = LabelGrid(spacing_mm)
        expected_ms = [rung.expected_ms for rung in rungs]
        self._ladder = DeadlineLadder(expected_ms, deadline_ms=deadline_ms)
        self._beats = BeatFinder(spec.labels, spacing_mm=spacing_mm, estimator=self._estimator)
        self._buffers: FrameBuffers | None = None
        # The last frame that was not refused: its arrival, its pixels and its time.
        self._last: tuple[Arrived, np.ndarray, float] | None = None
        self._was_too_old = False
        self._begun_s, self._since_call = -math.inf, 0

    def run(self, item: Arrived, how: How, *, newer_waits: bool = False) -> Event:
        """Segment a frame, or find why it is refused.

        Args:
            item: The frame.
            how: What is given for it.
            newer_waits: Whether a later frame waits, so that this one may be dropped for its age.
        """
        begin = time.perf_counter()
        last = self._last
        chosen = how.rung or self._rungs[self._ladder.index]
        event = Event(item.number, 0.0, "live", step=chosen.name)
        spans_ms = {"wait": 1e3 * (begin - item.arrived_s)}
        try:
            frame = decode_payload(item.payload)
            spans_ms["decode"] = 1e3 * (time.perf_counter() - begin)
            event = replace(event, time_s=_read_time(item.time_s))
            state, reason = self._check_order(frame, event.time_s)
            reason = reason or self._check_age(item, newer_waits=newer_waits)
            if reason:
                event = replace(event, state=state, reason=reason)
            else:
                event = self._segment(item, frame, event, replace(how, rung=chosen))
        except InputError as error:
            event = replace(event, reason=str(error))
        if self._last is None or self._last[0] is not item:
            self._copies.give_back(item.payload)
        elif last is not None:
            self._copies.give_back(last[0].payload)
        spans_ms |= event.stage_ms
        spans_ms["total"] = total_ms = 1e3 * (time.perf_counter() - item.arrived_s)
        if event.labels is not None and how.rung is None:
            step = self._ladder.note(time.perf_counter(), total_ms)
            event = replace(event, reason="; ".join(filter(None, (event.reason, step))))
        planner, settled = self._planner, self._planner.settled
        self._allow_calls(begin, event.stage_ms.get("network", math.inf))
        return replace(
            event, stage_ms=spans_ms, plan=planner.made, late=total_ms > self._deadline_ms,
            looks=settled.plans, verdicts=settled.verdicts, warming_up=planner.warming_up,
        )  # fmt: skip

    def close(self) -> None:
        """End the thread that plans."""
        self._planner.close()

    def _allow_calls(self, begin_s: float, network_ms: float) -> None:
        """Allow as many calls beside the frames as fit before the next frame is expected."""
        now = time.perf_counter()
        free_s = _FREE * (begin_s - self._begun_s) - (now - begin_s)
        calls = 0 if math.isinf(free_s) else max(int(1e3 * free_s / network_ms), 0)
        self._begun_s, self._since_call = begin_s, self._since_call + 1
        if calls or self._since_call >= _EVERY:
            self._since_call = 0
            self._planner.allow_calls(max(calls, 1))

    def _check_order(self, frame: np.ndarray, time_s: float) -> tuple[State, str]:
        """Whether a frame follows the one before in time; or what the matter is."""
        if self._last is None:
            return "live", ""
        arrived, before, before_s = self._last
        if time_s > before_s:
            return "live", ""
        if time_s == before_s:
            if frame.shape == before.shape and np.array_equal(frame, before):
                return "live", f"the frame is frame {arrived.number} again"
            return "live", f"its time is that of frame {arrived.number}, {before_s:g} s"
        self._last = arrived, before, time_s
        self._planner.rewind(time_s)
        self._beats.restart()
        return "reset", f"time runs backwards, from {before_s:g} s to {time_s:g} s"

    def _check_age(self, item: Arrived, *, newer_waits: bool) -> str:
        """Whether a frame is too old to be begun, as a later one waits; never two in a row."""
        age_ms = 1e3 * (time.perf_counter() - item.arrived_s)
        self._was_too_old = newer_waits and age_ms > self._deadline_ms and not self._was_too_old
        return f"too old before the network: {age_ms:.0f} ms" if self._was_too_old else ""

    def _segment(self, item: Arrived, frame: np.ndarray, event: Event, how: How) -> Event:
        """Plan for a frame and segment it.

        Raises:
            InputError: If the frame is refused.
        """
        begin = time.perf_counter()
        spacing_mm, unscaled = self._find_spacing(item.payload, frame)
        self._planner.rescale(spacing_mm or self._given_mm)
        planned = self._planner.plan_for(
            frame, event.time_s, settled=how.settled, may_wait=how.may_wait
        )
        plan_ms = 1e3 * (time.perf_counter() - begin)
        reason = "; ".join(filter(None, (planned.reason, self._rescale(spacing_mm))))
        if reason:
            self._beats.restart()
        assert how.rung is not None  # chosen by the caller
        self._given_size = self._given_size or frame.shape[1:]
        plan, pipeline = planned.plan, how.rung.pipeline
        self._buffers = self._buffers or _make_buffers(pipeline, plan)
        adjust = None
        if self._steady is not None:
            if reason:
                self._steady.restart()
            adjust = partial(self._steady.blend, plan=plan, time_s=event.time_s)
        found = pipeline.run(
            frame, plan, grid=self._grid, out=self._buffers, adjust=adjust,
            judge=self._is_judged(plan, event.time_s, restart=bool(reason)),
        )  # fmt: skip
        self._last = item, frame, event.time_s
        self._planner.add(frame, event.time_s)
        foreign: list[str] = []
        if self._gate is not None:
            network_ms = found.stage_ms["network"]
            foreign = self._gate.note(found.gate, event.time_s, network_ms)
        spacing_mm, beside = self._find_scale(found.labels)
        warnings = [*self._warnings, *unscaled, *beside, *foreign, *plan.warnings]
        warnings += name_untrusted(found.confidence)
        begin = time.perf_counter()
        measured = measure_frame(
            found.labels, self._spec.labels, spacing_mm=spacing_mm, sure=found.confidence,
            estimator=self._estimator,
        )  # fmt: skip
        beat = self._beats.add(item.number, event.time_s, found.labels, found.confidence)
        measure_ms = 1e3 * (time.perf_counter() - begin)
        return replace(
            event,
            state="reset" if reason else "live",
            labels=found.labels,
            stage_ms={"plan": plan_ms, **found.stage_ms, "measure": measure_ms},
            measurements=measured,
            confidence=distrust(found.confidence) if foreign else found.confidence,
            beat=beat,
            reason=reason,
            warnings=tuple(warnings),
            gate=None if self._gate is None else self._gate.distance,
        )

    def _is_judged(self, plan: FramePlan, time_s: float, *, restart: bool) -> bool:
        """Whether the gate judges a frame; it begins anew with each plan."""
        if self._gate is None:
            return False
        if restart or plan is not self._judged:
            self._gate.restart()
            self._judged = plan
        return self._gate.is_due(time_s)

    def _find_spacing(
        self, payload: Payload, frame: np.ndarray
    ) -> tuple[tuple[float, float] | None, list[str]]:
        """Return the distance of pixels of a frame, and a warning where the given one is not it."""
        own = payload.spacing_mm if isinstance(payload, ScaledFrame) else None
        if own is not None or self._given_mm is None:
            return own, []
        if self._given_size in (None, frame.shape[1:]):
            return self._given_mm, []
        height, width = self._given_size
        warning = (
            f"the distance of pixels was given for frames of {height} x {width} pixels and is not "
            "known for these; lengths and areas are given in pixels"
        )
        return None, [warning]

    def _find_scale(self, labels: np.ndarray) -> tuple[tuple[float, float] | None, list[str]]:
        """Return the distance of pixels where labels are, and a warning where it is not known."""
        if self._region is None or self._spacing_mm is None or self._spacing_mm != self._given_mm:
            return self._spacing_mm, []
        warning = describe_beside(labels, self._region, self._spec.labels)
        return (None, [warning]) if warning else (self._spacing_mm, [])

    def _rescale(self, now: tuple[float, float] | None) -> str:
        """Take over another distance of pixels; return what has changed by it."""
        before = self._spacing_mm
        if before == now or (before and now and np.allclose(before, now, rtol=_SAME_SCALE)):
            return ""
        self._spacing_mm, self._grid = now, LabelGrid(now)
        self._beats = BeatFinder(self._spec.labels, spacing_mm=now, estimator=self._estimator)
        if self._last is None:
            return ""
        return f"the distance of pixels has changed: {_describe(now)}, before {_describe(before)}"


def _make_buffers(pipeline: FramePipeline, plan: FramePlan) -> FrameBuffers:
    """Make buffers of one size for all plans; labels go out with the event, and have none."""
    made = pipeline.make_buffers(plan)
    return FrameBuffers(tensor=made.tensor, logits=made.logits)


def _describe(spacing_mm: tuple[float, float] | None) -> str:
    return f"{spacing_mm[0]:.4g} x {spacing_mm[1]:.4g} mm" if spacing_mm else "unknown"


def _read_time(time_s: object) -> float:
    """Read a time.

    Raises:
        FormatError: If it is no finite number.
    """
    if isinstance(time_s, (int, float, np.integer, np.floating)) and math.isfinite(time_s):
        return float(time_s)
    raise FormatError(f"the time of the frame is {time_s!r}; expected seconds, a finite number.")

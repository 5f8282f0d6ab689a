"""A stream: frames are pushed, or offered by one thread and their events taken by another."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.pipeline.frames.geometry_steps import find_aspect
from bedside.pipeline.frames.plan import FramePlan, plan_preprocess
from bedside.pipeline.segmenter import Segmenter
from bedside.stream.event import Event
from bedside.stream.frames import FrameCopies, view_frame
from bedside.stream.gate import GateWatch
from bedside.stream.ladder import open_rungs, time_judge
from bedside.stream.planner import CausalPlanner, Settled
from bedside.stream.protocol import Frame
from bedside.stream.slot import Arrived, Counts, LatestSlot
from bedside.stream.steady import WARNING, SteadyLogits
from bedside.stream.work import Extras, FrameWork, How
from bedside.volume import ImageSequence

__all__ = ["Counts", "LiveStream"]

STALE_MS = 70.0
"""Time without a new mask after which the last one is stale; a longer deadline counts instead."""


class LiveStream:
    """Segments frames that keep coming, the latest first of all.

    `push` works a frame off and returns its event. With threads, `offer` hands a frame over
    without waiting, a thread of the stream works it off, and `take` waits for the event; a frame
    that still waits when the next one comes is dropped and counted. Close it at the end, or use
    it in a `with` block.

    Args:
        bundle: For the execution modes that its card certifies.
        segmenter: The network that is loaded, which stays open.
        deadline_ms: Time from the arrival of a frame to its mask.
        spacing_mm: (row, column) distance of pixels in frames of the first size; None if unknown.
        sample: The film that the frames belong to, or frames of the same view, where these are
            known before: the plan is made from them, of a film as for the whole film.
        force: Go on where the frames look like another kind of image.
        steady: Whether masks are steadied over time: their areas flicker less than half as much,
            and they lag behind by about half a frame.
        on_event: Called with each event by the thread that works frames off; with "stale" too,
            once for each stall, if frames are offered.

    Attributes:
        steps: Names of the ways to run the bundle, each faster than the one before.

    Raises:
        UsageError: If the bundle takes whole scans or neighbouring slices, or a number cannot
            mean anything.
        InputError: If the sample is refused.
    """

    def __init__(
        self,
        bundle: Bundle,
        segmenter: Segmenter,
        *,
        deadline_ms: float = 33.0,
        spacing_mm: tuple[float, float] | None = None,
        sample: ImageSequence | Sequence[np.ndarray] = (),
        force: bool = False,
        steady: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        _check(bundle, deadline_ms, spacing_mm)
        given = _plan_sample(segmenter, sample, force=force, spacing_mm=spacing_mm)
        region = None
        if spacing_mm is None and isinstance(sample, ImageSequence):
            spacing_mm, region = segmenter.resolve_axes(sample).spacing_mm, sample.region
        planner = CausalPlanner(
            bundle.spec,
            given=given,
            force=force,
            predict=segmenter.session.predict,
            spacing_mm=spacing_mm,
        )
        if given is None:
            planner.warm_up()
        self.stale_after_ms = max(STALE_MS, float(deadline_ms))
        judge, estimator = segmenter.pipeline.judge, segmenter.pipeline.estimator
        rungs, count, self._opened = open_rungs(
            bundle, segmenter.session, deadline_ms=float(deadline_ms), like=segmenter.pipeline
        )
        watch = None
        if judge is not None:
            find_foreign = partial(segmenter.check_gate, force=force)
            watch = GateWatch(find_foreign, cost_ms=time_judge(judge, bundle.spec))
        self._rungs = {rung.name: rung for rung in rungs}
        self.steps = tuple(self._rungs)[:count]
        self._copies, self._slot = FrameCopies(), LatestSlot()
        self._frames = FrameWork(
            bundle.spec, rungs[:count], planner, self._copies, deadline_ms=float(deadline_ms),
            spacing_mm=spacing_mm, warnings=(*segmenter.warnings, *([WARNING] if steady else [])),
            extras=Extras(SteadyLogits() if steady else None, watch, estimator, region),
        )  # fmt: skip
        self._on_event = on_event or (lambda event: None)
        self._working = threading.RLock()  # a callback may close the stream
        # What is told; guarded by `_told`.
        self._told = threading.Condition()
        self._told_s: float | None = None
        self._out: tuple[Event, float] | None = None
        self._mask: tuple[Event, float] | None = None
        self._failure: BaseException | None = None
        self._worker: threading.Thread | None = None

    @property
    def counts(self) -> Counts:
        """What became of the frames so far."""
        return self._slot.counts

    def push(
        self,
        frame: Frame,
        time_s: float,
        *,
        step: str | None = None,
        settled: Settled | None = None,
    ) -> Event:
        """Return the event of a frame, segmented in this thread.

        A frame that comes faster than by its own time, as of a film on disk, may wait for its plan.

        Args:
            frame: (H, W), (H, W, 3), (1, H, W) or (3, H, W), which is copied; or a function that
                decodes it, or the error for which there is none.
            time_s: Its time by the clock of its source.
            step: A certified way to run the bundle, as `Event.step` names it, instead of what the
                deadline asks for.
            settled: What has taken effect up to this frame, of the work beside the frames, instead
                of what is done: a replay waits for it.

        Raises:
            ClosedError: If the stream was closed.
            UsageError: If there is no such step.
        """
        arrived_s = time.perf_counter()
        if step is not None and step not in self._rungs:
            raise UsageError(f"there is no step {step!r}; there are {', '.join(self._rungs)}.")
        rung = None if step is None else self._rungs[step]
        item = self._slot.enter(self._copies.take(frame), time_s, arrived_s)
        return self._work_off(item, How(rung, settled, may_wait=True))

    def skip(self) -> None:
        """Count a frame as sent and dropped, without segmenting it.

        Raises:
            ClosedError: If the stream was closed.
        """
        self._slot.enter(UsageError("skipped"), 0.0, 0.0)
        self._slot.finish(processed=False)

    def offer(self, frame: Frame, time_s: float) -> None:
        """Hand a frame over, from any thread, and return at once.

        Args:
            frame: As in `push`.
            time_s: Its time by the clock of its source.

        Raises:
            ClosedError: If the stream was closed.
            BedsideError: If the network or the callback has failed.
        """
        arrived_s = time.perf_counter()
        self._raise_failure()
        before = self._slot.put(self._copies.take(frame), time_s, arrived_s)
        if before is not None:
            self._copies.give_back(before.payload)
        if self._worker is None:
            with self._told:
                if self._worker is None:
                    self._told_s = arrived_s
                    self._worker = threading.Thread(
                        target=self._work, name="bedside stream", daemon=True
                    )
                    self._worker.start()

    def take(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event of frames that are offered.

        An event that is not taken before the next one is there is lost, but for its being a
        reset. If there is no new mask for a while, the last one is returned as "stale".

        Args:
            timeout_s: Longest time to wait; None for any.

        Returns:
            None if nothing came in that time, or if the stream was closed.

        Raises:
            BedsideError: If the network or the callback has failed.
        """
        until = math.inf if timeout_s is None else time.perf_counter() + timeout_s
        with self._told:
            while True:
                self._raise_failure()
                if self._out is not None:
                    (event, arrived_s), self._out = self._out, None
                    return self._age(event, arrived_s)
                now = time.perf_counter()
                stale_s = math.inf
                if self._told_s is not None:
                    stale_s = self._told_s + 1e-3 * self.stale_after_ms
                if self._slot.closed or now >= until:
                    return None
                if now >= stale_s:
                    self._told_s = now
                    return self._make_stale()
                wait_s = min(until, stale_s) - now
                self._told.wait(None if math.isinf(wait_s) else wait_s)

    def close(self) -> None:
        """End the stream; a frame that waits is dropped, one in flight is finished."""
        self._slot.close()
        with self._told:
            self._told.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join()
        with self._working:
            self._frames.close()
            for session in self._opened:
                session.close()

    def __enter__(self) -> "LiveStream":
        """Return the stream; it is closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the stream."""
        self.close()

    def _work(self) -> None:
        """Work off frames that are offered, until the stream is closed."""
        is_stalled = False
        try:
            while not self._slot.closed:
                item = self._slot.get(1e-3 * self.stale_after_ms)
                if item is not None:
                    self._work_off(item, How())
                    is_stalled = False
                elif not is_stalled and not self._slot.closed:
                    is_stalled = True
                    with self._told:
                        stale = self._make_stale()
                    self._on_event(stale)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that takes events
            with self._told:
                self._failure = error
                self._told.notify_all()

    def _work_off(self, item: Arrived, how: How) -> Event:
        """Make the event of a frame, count it, and tell it."""
        with self._working:
            processed = False
            try:
                waits = self._slot.counts.waiting > 0
                event = self._frames.run(item, how, newer_waits=waits)
                processed = event.labels is not None
            finally:
                counts = self._slot.finish(processed=processed)
            event = self._age(replace(event, dropped=counts.dropped), item.arrived_s)
            if self._worker is not None:
                self._tell(event, item.arrived_s)
            self._on_event(event)
            return event

    def _tell(self, event: Event, arrived_s: float) -> None:
        """Let an event be taken; it keeps the reset of one that was not."""
        with self._told:
            lost = self._out
            if lost is not None and lost[0].state == "reset" and event.state != "reset":
                reason = "; ".join(filter(None, (lost[0].reason, event.reason)))
                self._out = replace(event, state="reset", reason=reason), arrived_s
            else:
                self._out = event, arrived_s
            if event.labels is not None:
                self._mask = event, arrived_s
                self._told_s = time.perf_counter()
            self._told.notify()

    def _age(self, event: Event, arrived_s: float) -> Event:
        """The event as it is now: a mask that has become too old is stale."""
        age_ms = 1e3 * (time.perf_counter() - arrived_s)
        if event.labels is None or event.state != "live" or age_ms <= self.stale_after_ms:
            return replace(event, age_ms=age_ms)
        reason = "; ".join(filter(None, (event.reason, f"the mask is {age_ms:.0f} ms old")))
        return replace(event, age_ms=age_ms, state="stale", reason=reason)

    def _make_stale(self) -> Event:
        """The last mask, told to be stale."""
        reason = f"no new mask for {self.stale_after_ms:.0f} ms"
        if self._mask is None:
            counts = self._slot.counts
            return Event(-1, 0.0, "stale", reason=reason, dropped=counts.dropped)
        event, arrived_s = self._mask
        age_ms = 1e3 * (time.perf_counter() - arrived_s)
        return replace(
            event, state="stale", age_ms=age_ms, reason=reason, beat=None,
            dropped=self._slot.counts.dropped,
        )  # fmt: skip

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _plan_sample(
    segmenter: Segmenter,
    sample: ImageSequence | Sequence[np.ndarray],
    *,
    force: bool,
    spacing_mm: tuple[float, float] | None,
) -> FramePlan | None:
    """Plan from what is known before a stream begins; None if nothing is.

    Raises:
        InputError: If it is refused.
    """
    if isinstance(sample, ImageSequence):
        plan: FramePlan = segmenter.plan(segmenter.resolve_axes(sample), force=force)
        return plan
    if not len(sample):
        return None
    spec, views = segmenter.spec, [view_frame(frame) for frame in sample]
    plan = plan_preprocess(
        spec.preprocess, views, input_spec=spec.input, force=force, aspect=find_aspect(spacing_mm)
    )
    return segmenter.check_marker(plan, views)


def _check(bundle: Bundle, deadline_ms: float, spacing_mm: tuple[float, float] | None) -> None:
    """Refuse a bundle that needs more than one frame at a time, and numbers without a meaning.

    Raises:
        UsageError: If so.
    """
    name, spec = bundle.spec.name, bundle.spec
    if spec.model.spatial_dims != 2:
        raise UsageError(f"{name} takes whole scans and no frames one by one. Choose another.")
    if spec.input.neighbours:
        raise UsageError(
            f"{name} takes the {spec.input.neighbours} frames before and after each; live, those "
            "after are not there yet. Choose a bundle without neighbours."
        )
    if not 0 < deadline_ms < math.inf:
        raise UsageError(f"deadline_ms is {deadline_ms}; expected a number above 0.")
    if spacing_mm is not None and not all(0 < length < math.inf for length in spacing_mm):
        raise UsageError(f"spacing_mm is {spacing_mm}; expected two lengths above 0.")

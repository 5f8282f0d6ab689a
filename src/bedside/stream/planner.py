"""The preprocessing of frames whose followers are not there yet: planned from those seen so far."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bedside.errors import FrameError, InputError
from bedside.pipeline.frames.geometry_steps import find_aspect
from bedside.pipeline.frames.marker import MarkerVerdict, turn_plan
from bedside.pipeline.frames.plan import FramePlan, plan_preprocess
from bedside.spec import DeploymentSpec
from bedside.stream.marker import UNCHECKED, MarkerWatch

WARM_UP_S, WARM_UP_FRAMES = 0.5, 15
"""Time, or frames, after which a plan only changes if the image turns out to be larger."""
SAMPLE_FRAMES = 16
"""Frames that are kept to plan from, evenly spread over those seen."""
_SAMPLE_BYTES = 64 * 2**20
# A plan is made while further frames are segmented by the one before, and taken over so many
# frames later, or so much later: at the same frame as a rule, whatever else the machine does.
_LAG_FRAMES, _LAG_S = 5, 0.15
_LONGEST_WAIT_S, _ANY_CALLS = 1.0, 10**9
_EARLY_FRAMES = 3
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.5, 30.0
"""Time from the warm-up to the first look for a larger image; it is doubled after each."""
_LARGER = 1.02
_FINAL = ("as it is", "mirrored")
"""Verdicts on the marker that are not asked for again."""

Kind = tuple[tuple[int, ...], np.dtype]


@dataclass(frozen=True)
class Planned:
    """A plan for a frame.

    Attributes:
        plan: The plan.
        reason: Why frames before cannot be compared with this one; else "".
    """

    plan: FramePlan
    reason: str = ""


@dataclass(frozen=True)
class Settled:
    """What has come of work in the background, so that a replay repeats it at the same frames.

    Attributes:
        plans: Plans of several frames that were taken over, or found to be no better.
        verdicts: Checks of the probe's marker that have taken effect.
    """

    plans: int = 0
    verdicts: int = 0


@dataclass(frozen=True)
class _Pending:
    """A plan, or a check of the marker, that is being made.

    Attributes:
        future: What will come of it.
        begun_s: When it was begun, by the clock of this process.
        from_s: The same by the clock of the source.
        at_frame: Count of frames at which it takes effect, if it is done.
    """

    future: "Future[Any]"
    begun_s: float
    from_s: float
    at_frame: int

    def is_due(self, seen: int, time_s: float) -> bool:
        """Whether it takes effect, if it is done."""
        return seen >= self.at_frame or time_s >= self.from_s + _LAG_S

    def find_patience(self, time_s: float) -> float:
        """By how many seconds the source was ahead of the clock since; 0 for live frames."""
        ahead_s = (time_s - self.from_s) - (time.perf_counter() - self.begun_s)
        return min(max(ahead_s, 0.0), _LONGEST_WAIT_S)


class CausalPlanner:
    """Plans for frames of a stream, each from frames up to that one alone.

    The first frame is planned for by itself. In the warm-up the plan is made again from the first
    4, and from some 11 frames. From then on it is made again ever more seldom, from frames spread
    over all that were seen, and is only taken over if the image turns out to be larger. A frame of
    another shape or dtype begins all anew.

    Where the bundle checks the probe's marker, that is done once, beside the frames, and again as
    long as it cannot be told. No frame waits for any of this: what is not done in time takes effect
    later. Only frames that come faster than by their own times, as of a film on disk, wait.

    Args:
        spec: The steps.
        given: Plan for frames of the first kind, where their film is known: there is no warm-up.
        force: Go on where the frames look like another kind of image.
        predict: The network, from (1, C, H, W) to logits (1, K, h, w), for the probe's marker;
            None to leave that unchecked.
        spacing_mm: (row, column) distance of pixels; None if unknown.

    Attributes:
        made: Plans that have been used.
        settled: What has come of work in the background.
    """

    def __init__(
        self,
        spec: DeploymentSpec,
        *,
        given: FramePlan | None = None,
        force: bool = False,
        predict: Callable[[np.ndarray], np.ndarray] | None = None,
        spacing_mm: Sequence[float] | None = None,
    ) -> None:
        self._spec, self._force = spec, force
        self._aspect = find_aspect(spacing_mm)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bedside plan")
        self._watch = None
        if spec.marker is not None and predict is not None:
            self._watch = MarkerWatch(spec.marker, predict)
        self._plan: FramePlan | None = None  # for frames as they are
        self._turned: FramePlan | None = None  # for frames as the marker says that they are
        self._kind: Kind | None = None
        self._last_kind: Kind | None = None
        self.made, self.settled = 0, Settled()
        self._sample: list[np.ndarray] = []
        self._first_s: float | None = None
        self._pending: _Pending | None = None
        self._checking: _Pending | None = None
        self._verdict: MarkerVerdict | None = None
        self._look_s = self._pause_s = _FIRST_LOOK_S
        self._restart()
        if given is not None:
            self._plan = self._turned = given
            self.made, self._is_given, self.warming_up = 1, True, False

    def plan_for(
        self,
        frame: np.ndarray,
        time_s: float,
        *,
        settled: Settled | None = None,
        may_wait: bool = True,
    ) -> Planned:
        """Return the plan for a frame, (C, H, W).

        Args:
            frame: The frame.
            time_s: Its time by the clock of its source.
            settled: What had taken effect for this frame before, which is waited for and repeated.
            may_wait: Whether a frame that comes faster than by its own time may wait.

        Raises:
            InputError: If the frame is of no kind that the bundle takes.
        """
        kind = frame.shape, frame.dtype
        if self._is_given and self._kind is None and self._fits(frame):
            self._kind = self._last_kind = kind
        if self._plan is None or kind != self._kind:
            self._restart()
            self._plan, self._kind = None, kind
            self._plan = self._make([frame])
            reason = _describe_change(self._last_kind, kind)
            self._last_kind = kind
            self.made += 1
            return Planned(self._turn(), reason)
        wanted, done = settled, self.settled
        plan, self._pending = self._settle(
            self._pending, time_s, may_wait=may_wait,
            must=None if wanted is None else wanted.plans > done.plans,
        )  # fmt: skip
        reasons = [] if plan is None else [self._take_plan(plan, time_s)]
        verdict, self._checking = self._settle(
            self._checking, time_s, may_wait=may_wait,
            must=None if wanted is None else wanted.verdicts > done.verdicts,
        )  # fmt: skip
        reasons += [] if verdict is None else [self._take_verdict(verdict)]
        assert self._turned is not None  # there is a plan
        return Planned(self._turned, "; ".join(filter(None, reasons)))

    def rescale(self, spacing_mm: Sequence[float] | None) -> None:
        """Take over another distance of pixels: if their shape is another, plans begin anew."""
        aspect = find_aspect(spacing_mm)
        if aspect != self._aspect:
            self._aspect = aspect
            self._restart()
            self._plan = self._last_kind = None

    def allow_calls(self, calls: int) -> None:
        """Let the check of the marker, if there is one, call the network so often from now on."""
        if self._watch is not None:
            self._watch.allow(calls)

    def add(self, frame: np.ndarray, time_s: float) -> None:
        """Note a frame that has been segmented, so that later plans are made from it too."""
        if self._is_given:
            return
        if self._first_s is None:
            self._first_s = time_s
        if self._seen % self._stride == 0:
            self._sample.append(frame.copy())
            most = max(4, min(SAMPLE_FRAMES, _SAMPLE_BYTES // max(1, frame.nbytes)))
            if len(self._sample) > most:
                self._sample = self._sample[::2]
                self._stride *= 2
        self._seen += 1
        if self._pending is None and self._is_due(time_s):
            plan = self._threads.submit(self._make, tuple(self._sample))
            at_frame = self._seen + _LAG_FRAMES - 1
            self._pending = _Pending(plan, time.perf_counter(), time_s, at_frame)

    def warm_up(self) -> None:
        """Plan once for noise, so that the first frame does not wait for what is loaded lazily."""
        noise = np.random.default_rng(0).integers(0, 255, (self._spec.input.channels, 240, 320))
        with suppress(InputError):
            self._make([noise.astype(np.uint8)])

    def rewind(self, time_s: float) -> None:
        """Count time from here on, after a clock that ran backwards."""
        self._forget_pending()
        self._first_s = None if self._first_s is None else time_s
        self._look_s = time_s + self._pause_s

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)
        if self._watch is not None:
            self._watch.close()

    def _restart(self) -> None:
        """Forget the frames seen."""
        self._sample = []
        self._stride, self._seen = 1, 0
        self._first_s = self._verdict = None
        self._forget_pending()
        self._look_s = self._pause_s = _FIRST_LOOK_S
        self._is_given, self.warming_up = False, True

    def _forget_pending(self) -> None:
        """Leave what is being made unused."""
        self._pending = self._checking = None
        if self._watch is not None:
            self._watch.stop()

    def _is_due(self, time_s: float) -> bool:
        """Whether a plan is to be made of the frames seen so far."""
        assert self._first_s is not None  # a frame has been added
        if not self.warming_up:
            return time_s >= self._look_s
        late_s = WARM_UP_S - _LAG_S
        return (
            self._seen == _EARLY_FRAMES + 1
            or self._seen > WARM_UP_FRAMES - _LAG_FRAMES
            or time_s - self._first_s >= late_s - 1e-6
        )

    def _settle(
        self, pending: _Pending | None, time_s: float, *, may_wait: bool, must: bool | None
    ) -> tuple["Future[Any] | None", _Pending | None]:
        """What takes effect now, of what is pending; and what is still pending.

        Args:
            pending: What is being made.
            time_s: Time of the frame.
            may_wait: Whether the frame may wait for it.
            must: Whether it has to take effect now; None where that is open.
        """
        if pending is None or must is False or not (must or pending.is_due(self._seen, time_s)):
            return None, pending
        wait_s = None if must else pending.find_patience(time_s) if may_wait else 0.0
        if not pending.future.done() and wait_s != 0:
            self.allow_calls(_ANY_CALLS)
            wait([pending.future], timeout=wait_s)
        return (pending.future, None) if pending.future.done() else (None, pending)

    def _take_plan(self, future: "Future[FramePlan]", time_s: float) -> str:
        """Use a plan that is done; return why frames before cannot be compared with this one."""
        self.settled = replace(self.settled, plans=self.settled.plans + 1)
        reason = ""
        with suppress(InputError):  # frames that were each fine may be odd together
            reason = self._take_over(future.result(), time_s)
        if self._watch is not None and self._verdict not in _FINAL and self._checking is None:
            assert self._plan is not None  # it follows another one
            check = self._watch.start(self._plan, tuple(self._sample))
            at_frame = self._seen + _LAG_FRAMES
            self._checking = _Pending(check, time.perf_counter(), time_s, at_frame)
        return reason

    def _take_over(self, found: FramePlan, time_s: float) -> str:
        """Use a plan: in the warm-up in any case, later if the image is larger."""
        assert self._plan is not None  # it follows another one
        assert self._first_s is not None
        box, new = self._plan.transform.box, found.transform.box
        reason = ""
        if self.warming_up:
            is_over = self._seen >= WARM_UP_FRAMES or time_s - self._first_s >= WARM_UP_S - _LAG_S
            self.warming_up = not is_over
        elif new.height < _LARGER * box.height and new.width < _LARGER * box.width:
            found = self._plan
        else:
            reason = (
                f"the image is larger than it seemed: {new.height} x {new.width} pixels and not "
                f"{box.height} x {box.width}"
            )
        if not self.warming_up:
            self._look_s = time_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_LOOK_S)
        if found is not self._plan:
            self.made += 1
            self._plan = found
            self._turn()
        return reason

    def _take_verdict(self, future: "Future[MarkerVerdict]") -> str:
        """Use a verdict on the marker; return why frames before cannot be compared."""
        self.settled = replace(self.settled, verdicts=self.settled.verdicts + 1)
        before, self._verdict = self._verdict, future.result()
        if self._verdict != before:
            self._turn()
        if self._verdict != "mirrored":
            return ""
        self.made += 1
        return "the view turned out to be mirrored left to right"

    def _turn(self) -> FramePlan:
        """Make the plan for frames as the marker says that they are."""
        plan, verdict = self._plan, self._verdict
        assert plan is not None  # by the caller
        if self._watch is not None and verdict is None:
            plan = replace(plan, warnings=(*plan.warnings, UNCHECKED))
        self._turned = plan if verdict is None else turn_plan(plan, verdict)
        return self._turned

    def _fits(self, frame: np.ndarray) -> bool:
        """Whether the plan that was given is for frames of this kind."""
        assert self._plan is not None  # it was given
        try:
            self._plan.kind.check(frame)
        except FrameError:
            return False
        return True

    def _make(self, sample: Sequence[np.ndarray]) -> FramePlan:
        return plan_preprocess(
            self._spec.preprocess, sample, input_spec=self._spec.input, force=self._force,
            aspect=self._aspect,
        )  # fmt: skip


def _describe_change(before: Kind | None, now: Kind) -> str:
    """Name what differs between two kinds of frames; nothing if there was none before."""
    if before is None:
        return ""
    (old, old_dtype), (new, new_dtype) = before, now
    parts = []
    if old[1:] != new[1:]:
        parts.append(f"size from {old[1]} x {old[2]} to {new[1]} x {new[2]} pixels")
    if old[0] != new[0]:
        parts.append(f"colour from {old[0]} to {new[0]} channels")
    if old_dtype != new_dtype:
        parts.append(f"numbers from {old_dtype.name} to {new_dtype.name}")
    return f"the frames have changed: {', '.join(parts) or 'others came between'}"

"""The preprocessing of frames whose followers are not there yet: planned from those seen so far."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from bedside.errors import FrameError, InputError
from bedside.pipeline.frames.plan import FramePlan, plan_preprocess
from bedside.spec import DeploymentSpec

WARM_UP_S, WARM_UP_FRAMES = 0.5, 15
"""Time, or frames, after which a plan only changes if the image turns out to be larger."""
SAMPLE_FRAMES = 16
"""Frames that are kept to plan from, evenly spread over those seen."""
_SAMPLE_BYTES = 64 * 2**20
# A plan is made while further frames are segmented by the one before, and taken over so many
# frames later, or so much later: always at the same frame, whatever else the machine does.
_LAG_FRAMES, _LAG_S = 5, 0.15
_EARLY_FRAMES = 3
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.5, 30.0
"""Time from the warm-up to the first look for a larger image; it is doubled after each."""
_LARGER = 1.02

Kind = tuple[tuple[int, ...], np.dtype]
Finish = Callable[[FramePlan, Sequence[np.ndarray]], FramePlan]


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
class _Pending:
    """A plan that is being made.

    Attributes:
        plan: What will come of it.
        at_frame: Count of frames at which it is taken over.
        at_s: Time at which it is, if that is earlier.
    """

    plan: "Future[FramePlan]"
    at_frame: int
    at_s: float


class CausalPlanner:
    """Plans for frames of a stream, each from frames up to that one alone.

    The first frame is planned for by itself. In the warm-up the plan is made again from the first
    4, and from some 11 frames. From then on it is made again ever more seldom, from frames spread
    over all that were seen, and is only taken over if the image turns out to be larger. A frame of
    another shape or dtype begins all anew.

    Args:
        spec: The steps.
        given: Plan for frames of the first kind, where their film is known: there is no warm-up.
        force: Go on where the frames look like another kind of image.
        finish: Completes each plan, from it and the frames that it was made from.

    Attributes:
        made: Plans that have been used.
    """

    def __init__(
        self,
        spec: DeploymentSpec,
        *,
        given: FramePlan | None = None,
        force: bool = False,
        finish: Finish = lambda plan, sample: plan,
    ) -> None:
        self._spec, self._force, self._finish = spec, force, finish
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bedside plan")
        self._plan: FramePlan | None = None
        self._kind: Kind | None = None
        self._last_kind: Kind | None = None
        self.made = 0
        self._sample: list[np.ndarray] = []
        self._first_s: float | None = None
        self._pending: _Pending | None = None
        self._look_s = self._pause_s = _FIRST_LOOK_S
        self._restart()
        if given is not None:
            self._plan, self.made = given, 1
            self._is_given, self.warming_up = True, False

    def plan_for(self, frame: np.ndarray, time_s: float) -> Planned:
        """Return the plan for a frame, (C, H, W).

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
            return Planned(self._plan, reason)
        pending = self._pending
        if pending is None or (self._seen < pending.at_frame and time_s < pending.at_s):
            return Planned(self._plan)
        self._pending = None
        try:
            found = pending.plan.result()
        except InputError:
            return Planned(self._plan)  # frames that were each fine are odd together
        return self._take_over(found, time_s)

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
            self._pending = _Pending(plan, self._seen + _LAG_FRAMES - 1, time_s + _LAG_S)

    def warm_up(self) -> None:
        """Plan once for noise, so that the first frame does not wait for what is loaded lazily."""
        noise = np.random.default_rng(0).integers(0, 255, (self._spec.input.channels, 240, 320))
        with suppress(InputError):
            self._make([noise.astype(np.uint8)])

    def rewind(self, time_s: float) -> None:
        """Count time from here on, after a clock that ran backwards."""
        self._pending = None
        self._first_s = None if self._first_s is None else time_s
        self._look_s = time_s + self._pause_s

    def close(self) -> None:
        """End the thread that plans."""
        self._threads.shutdown(cancel_futures=True)

    def _restart(self) -> None:
        """Forget the frames seen."""
        self._sample = []
        self._stride, self._seen = 1, 0
        self._first_s = self._pending = None
        self._look_s = self._pause_s = _FIRST_LOOK_S
        self._is_given, self.warming_up = False, True

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

    def _take_over(self, found: FramePlan, time_s: float) -> Planned:
        """Use a plan that is done: in the warm-up in any case, later if the image is larger."""
        assert self._plan is not None  # it follows another one
        assert self._first_s is not None
        box, new = self._plan.transform.box, found.transform.box
        reason = ""
        if self.warming_up:
            is_over = self._seen >= WARM_UP_FRAMES or time_s - self._first_s >= WARM_UP_S - _LAG_S
            self.warming_up = not is_over
            if found.mirrored != self._plan.mirrored:
                reason = "the view turned out to be mirrored the other way"
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
        self.made += found is not self._plan
        self._plan = found
        return Planned(found, reason)

    def _fits(self, frame: np.ndarray) -> bool:
        """Whether the plan that was given is for frames of this kind."""
        assert self._plan is not None  # it was given
        try:
            self._plan.kind.check(frame)
        except FrameError:
            return False
        return True

    def _make(self, sample: Sequence[np.ndarray]) -> FramePlan:
        plan = plan_preprocess(
            self._spec.preprocess, sample, input_spec=self._spec.input, force=self._force
        )
        return self._finish(plan, sample)


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
        parts.append(f"depth from {old_dtype.name} to {new_dtype.name}")
    return f"the frames have changed: {', '.join(parts) or 'others came between'}"

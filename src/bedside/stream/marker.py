"""Whether the view of a stream is mirrored: found beside its frames, call by call."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from bedside.pipeline.frames.marker import (
    MarkerVerdict,
    find_certainty,
    judge_views,
    make_views,
)
from bedside.pipeline.frames.plan import FramePlan
from bedside.spec import MarkerCheck

UNCHECKED = (
    "whether the view is mirrored left to right is not known yet; it is taken as it is so far."
)


class MarkerWatch:
    """Checks the probe's marker beside the frames, with so many calls of the network as allowed.

    Args:
        step: How sure the network must be.
        predict: The network, from (1, C, H, W) to logits (1, K, h, w).
    """

    def __init__(self, step: MarkerCheck, predict: Callable[[np.ndarray], np.ndarray]) -> None:
        self._step, self._predict = step, predict
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bedside marker")
        self._changed = threading.Condition()
        self._calls = 0.0
        self._check: object = None

    def start(self, plan: FramePlan, frames: Sequence[np.ndarray]) -> "Future[MarkerVerdict]":
        """Begin a check, instead of one that is not done.

        Args:
            plan: For the frames as they are.
            frames: (C, H, W) decoded frames of the view, at least one; not to be changed.

        Returns:
            What will come of it.
        """
        self.stop()
        with self._changed:
            self._calls, check = 0.0, object()
            self._check = check
        return self._thread.submit(self._run, check, plan, frames)

    def allow(self, calls: float) -> None:
        """Allow so many calls from now on; those that were not used are forgotten."""
        with self._changed:
            self._calls = calls
            self._changed.notify_all()

    def stop(self) -> None:
        """End a check that is not done, after the call that it is in."""
        with self._changed:
            self._check = None
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        self.stop()
        self._thread.shutdown(cancel_futures=True)

    def _run(self, check: object, plan: FramePlan, frames: Sequence[np.ndarray]) -> MarkerVerdict:
        certainties = []
        for view in make_views(plan, frames, self._step):
            with self._changed:
                while self._check is check and self._calls < 1:
                    self._changed.wait()
                if self._check is not check:
                    return "unsure"  # nobody asks for it any more
                self._calls -= 1
            certainties.append(find_certainty(self._predict(view)[0]))
        return judge_views(certainties, self._step)

"""Are live frames what the network was made for? Some of them are judged by the bundle's gate."""

from collections import deque
from collections.abc import Callable, Sequence

from bedside.pipeline.gate import JUDGED_FRAMES, GateVerdict, median_verdict

SHARE = 0.05
"""Part of the network's time that judging may take, on average."""
_APART_S = 0.2
"""Time between two frames that are judged at least."""


class GateWatch:
    """Judges some frames: the first by each plan, then as many as a share of the time allows.

    The median of the last 7 counts, as it does for a film, so a single odd frame does not.

    Args:
        find_foreign: Warnings for a verdict, such as `Segmenter.check_gate`.
        cost_ms: Time that judging a frame takes.

    Attributes:
        distance: Of the median from the training images, as a multiple of what 99 % of them stay
            within; None if no frame was judged.
    """

    def __init__(
        self, find_foreign: Callable[[GateVerdict], Sequence[str]], *, cost_ms: float
    ) -> None:
        self._find_foreign, self._cost_ms = find_foreign, cost_ms
        self._budget_ms = 0.0
        self.restart()

    def restart(self) -> None:
        """Forget the frames that were judged: later ones are another view, or seen otherwise."""
        self._verdicts: deque[GateVerdict] = deque(maxlen=JUDGED_FRAMES)
        self._last_s = float("-inf")
        self.distance: float | None = None

    def is_due(self, time_s: float) -> bool:
        """Whether a frame of this time is to be judged."""
        if not self._verdicts:
            return True
        return self._budget_ms >= 0 and time_s - self._last_s >= _APART_S

    def note(self, verdict: GateVerdict | None, time_s: float, network_ms: float) -> list[str]:
        """Note a frame, and what was found of it; return warnings.

        Args:
            verdict: None if the frame was not judged.
            time_s: Its time.
            network_ms: Time that the network took for it.

        Raises:
            ModalityError: If images like the last ones are refused.
        """
        self._budget_ms = min(self._budget_ms + SHARE * network_ms, 0.0)
        if verdict is not None:
            self._budget_ms -= self._cost_ms
            self._verdicts.append(verdict)
            self._last_s = time_s
        median = median_verdict(self._verdicts)
        if median is None:
            return []
        self.distance = round(median.distance, 3)
        return list(self._find_foreign(median))

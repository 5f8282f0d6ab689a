"""Volume of the left ventricle by Simpson's discs in one plane, and beats from its area."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bedside.pipeline.confidence import ConfidenceEstimator
from bedside.spec import Label
from bedside.spec.confidence import Confidences
from bedside.stream.event import Beat
from bedside.stream.measure import bound_values

LV_CAVITY, LEFT_ATRIUM, LV_MYOCARDIUM = "87878005", "82471001", "49848007"
"""SNOMED CT codes of the structures that are looked at."""

CHANGE, FRACTION = "fractional_area_change", "ejection_fraction"
"""Attributes of a beat, and the names under which a bundle is calibrated for them."""
_DISCS = 20
_LEAST_CHANGE = 0.12
"""Part of the largest area by which it must fall and rise again: the least beat."""
_SHORTEST_S = 0.15
"""Time between end-diastole and end-systole at least; areas that change faster are errors."""
_LONGEST_S = 2.0
"""And at most, of 30 beats a minute; a probe that moves, or a gap in the frames, takes longer."""
_CONTACT_PX = 5
"""Side of the square around a pixel in which a structure counts as touching it."""


def find_values(structures: Sequence[Label]) -> tuple[int, int | None, int | None] | None:
    """Values of the LV cavity, the left atrium and the myocardium; None without a cavity."""
    by_code = {each.type.value: each.value for each in structures if each.type.scheme == "SCT"}
    cavity = by_code.get(LV_CAVITY)
    if cavity is None:
        return None
    return cavity, by_code.get(LEFT_ATRIUM), by_code.get(LV_MYOCARDIUM)


def simpson_volume(
    labels: np.ndarray,
    values: tuple[int, int | None, int | None],
    *,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
) -> float | None:
    """Volume of the LV cavity from one plane, as 20 discs along its long axis.

    The axis runs from the middle of the mitral plane to the apex, the point of the cavity that is
    the farthest from there. The mitral plane is where the cavity touches the left atrium; without
    an atrium, where it does not touch the myocardium. Each disc is as wide as the cavity is there
    on average, across the axis.

    Args:
        labels: (H, W) uint8.
        values: As `find_values` returns them.
        spacing_mm: (row, column) distance of pixels.

    Returns:
        In ml, or in 1000 pixels cubed with a spacing of 1; None if there is no mitral plane.

    Source:
        Lang et al. 2015, doi:10.1016/j.echo.2014.10.003 (the method of discs).
    """
    cavity, atrium, muscle = values
    mask = cv2.inRange(labels, cavity, cavity)
    count = cv2.countNonZero(mask)
    if not count:
        return None
    edge = cv2.subtract(mask, cv2.erode(mask, np.ones((3, 3), np.uint8)))
    square = np.ones((_CONTACT_PX, _CONTACT_PX), np.uint8)
    if atrium is not None and (labels == atrium).any():
        contact = cv2.bitwise_and(edge, cv2.dilate(cv2.inRange(labels, atrium, atrium), square))
    elif muscle is not None:
        contact = cv2.subtract(edge, cv2.dilate(cv2.inRange(labels, muscle, muscle), square))
    else:
        return None
    base = np.argwhere(contact) * spacing_mm
    if len(base) < 2:
        return None
    apart = ((base[:, None] - base[None]) ** 2).sum(axis=2)
    ends = base[list(np.unravel_index(int(apart.argmax()), apart.shape))]
    middle = ends.mean(axis=0)
    outline = np.argwhere(edge) * spacing_mm
    apex = outline[int(((outline - middle) ** 2).sum(axis=1).argmax())]
    length = float(np.linalg.norm(apex - middle))
    if not length:
        return None
    along = (np.argwhere(mask) * spacing_mm - middle) @ ((apex - middle) / length)
    places = np.clip((along * (_DISCS / length)).astype(int), 0, _DISCS - 1)
    pixel_mm2, height = spacing_mm[0] * spacing_mm[1], length / _DISCS
    widths = np.bincount(places, minlength=_DISCS) * (pixel_mm2 / height)
    return float((np.pi / 4 * widths**2 * height).sum()) / 1e3


@dataclass(frozen=True)
class _Moment:
    """A frame with the area of its cavity."""

    frame: int
    time_s: float
    area_px: int
    labels: np.ndarray
    predicted_dice: float | None


class BeatFinder:
    """Finds heart beats from the area of the LV cavity, from frames seen so far alone.

    End-diastole is where the area is largest before it falls by 12 %, end-systole where it is
    smallest before it rises by as much again. A beat is told when that rise is seen. What falls
    for longer than a heart can is none: a probe that moves away, or a gap in the frames.

    Args:
        structures: The labels of the bundle.
        spacing_mm: (row, column) distance of pixels; square pixels if None.
        estimator: What the bundle is calibrated for; None for nothing.
    """

    def __init__(
        self,
        structures: Sequence[Label],
        *,
        spacing_mm: tuple[float, float] | None = None,
        estimator: ConfidenceEstimator | None = None,
    ) -> None:
        self._values = find_values(structures)
        cavity = self._values and self._values[0]
        self._cavity = next((each.name for each in structures if each.value == cavity), "")
        self._model = None if estimator is None else estimator.find_model(self._cavity)
        self._spacing_mm = spacing_mm or (1.0, 1.0)
        self.restart()

    def restart(self) -> None:
        """Forget the frames seen."""
        self._high: _Moment | None = None
        self._low: _Moment | None = None
        self._falls = False
        self._first: _Moment | None = None

    def add(
        self, frame: int, time_s: float, labels: np.ndarray, sure: Confidences | None = None
    ) -> Beat | None:
        """Add a frame that has been segmented; return the beat that ends with it.

        Args:
            frame: Its number.
            time_s: Its time.
            labels: (H, W) uint8; kept, and must not be changed.
            sure: How far each mask is to be trusted.
        """
        if self._values is None:
            return None
        cavity = (sure or {}).get(self._cavity)
        now = _Moment(
            frame, time_s, int(np.count_nonzero(labels == self._values[0])), labels,
            None if cavity is None else cavity.predicted_dice,
        )  # fmt: skip
        if not now.area_px:
            self.restart()  # lost from view: what comes back is another view
            return None
        if self._high is None or self._low is None:
            self._first = self._high = self._low = now
            return None
        if not self._falls:
            self._follow_up(now)
            return None
        if now.area_px <= self._low.area_px:
            self._low = now
        elif now.area_px - self._low.area_px > _LEAST_CHANGE * self._high.area_px:
            beat = self._finish(self._high, self._low)
            self._high, self._falls = now, False
            return beat
        return None

    def _follow_up(self, now: _Moment) -> None:
        """Follow the area while it grows, and notice when it falls."""
        assert self._high is not None  # by the caller
        if now.area_px >= self._high.area_px:
            self._high = now
        elif self._high.area_px - now.area_px > _LEAST_CHANGE * self._high.area_px:
            self._low, self._falls = now, True

    def _finish(self, high: _Moment, low: _Moment) -> Beat | None:
        assert self._values is not None  # by the caller
        if high is self._first or not _SHORTEST_S <= low.time_s - high.time_s <= _LONGEST_S:
            return None  # nobody has seen the area before the first frame, which may be larger
        volumes = [
            simpson_volume(moment.labels, self._values, spacing_mm=self._spacing_mm)
            for moment in (high, low)
        ]
        fraction = None
        if volumes[0] and volumes[1] is not None:
            fraction = round((volumes[0] - volumes[1]) / volumes[0], 4)
        change = round((high.area_px - low.area_px) / high.area_px, 4)
        return Beat(
            ed_frame=high.frame,
            es_frame=low.frame,
            ed_time_s=high.time_s,
            es_time_s=low.time_s,
            fractional_area_change=change,
            ejection_fraction=fraction,
            intervals=self._bound(high, low, change, fraction),
        )

    def _bound(
        self, high: _Moment, low: _Moment, change: float, fraction: float | None
    ) -> Mapping[str, tuple[float, float]]:
        """Intervals of a beat, from the worse of its two masks."""
        sure = high.predicted_dice, low.predicted_dice
        if self._model is None or sure[0] is None or sure[1] is None:
            return {}
        values = {CHANGE: (CHANGE, change), FRACTION: (FRACTION, fraction)}
        return bound_values(self._model, values, predicted_dice=min(sure[0], sure[1]))

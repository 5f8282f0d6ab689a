"""What a stream tells of each frame: its labels, their age, and what happened to it."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bedside.spec.confidence import Confidences

State = Literal["live", "stale", "reset"]


@dataclass(frozen=True)
class Measurement:
    """One structure in one frame.

    Attributes:
        area_px: Its pixels.
        area_cm2: None where the distance of pixels is not known.
        length_px: Largest diameter in pixels.
        length_mm: The same in mm; None where the distance of pixels is not known.
        intervals: (low, high) that hold the true value in most cases, by the name of the
            attribute; empty if the bundle is not calibrated for it.
    """

    area_px: int
    area_cm2: float | None
    length_px: float
    length_mm: float | None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Beat:
    """One heart beat, found from the area of the left ventricle.

    Attributes:
        ed_frame: Number of the frame at end-diastole, the largest area.
        es_frame: Number of the frame at end-systole, the smallest area after it.
        ed_time_s: Time of the first.
        es_time_s: Time of the second.
        fractional_area_change: (largest - smallest) / largest.
        ejection_fraction: Of the volumes by Simpson's discs in this one plane; None where the
            mitral plane was not found.
        intervals: (low, high) that hold the true value in most cases, by the name of the
            attribute; empty if the bundle is not calibrated for it.
    """

    ed_frame: int
    es_frame: int
    ed_time_s: float
    es_time_s: float
    fractional_area_change: float
    ejection_fraction: float | None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Event:
    """What became of one frame.

    Attributes:
        frame: Number of the frame, in the order of arrival from 0; -1 before the first.
        time_s: Time of the frame by the clock of its source.
        state: "live"; "reset" if nothing before can be compared with it, for the reason given;
            "stale" if it is repeated because nothing newer came, or was late by as much.
        labels: (H, W) uint8 on the grid of the frame; None if it was not segmented. Not to be
            changed.
        age_ms: Time from the arrival of the frame to now.
        stage_ms: Time of each stage in ms, and "total".
        measurements: By name of the structure.
        confidence: How far each mask is to be trusted, by name of the structure; empty if the
            bundle is not calibrated.
        beat: A heart beat that ended with this frame.
        reason: Why the frame was not segmented, or why the state is not "live"; else "".
        warnings: What cannot be trusted, in sentences for a person.
        gate: How far the frames judged last are from the training images, as a multiple of what
            99 % of these stay within; None without a gate.
        step: Execution mode, and optional steps that are left out: a rung of the ladder.
        plan: How many plans of the preprocessing have been made.
        looks: Plans that were made beside the frames and have been taken over, or found to be no
            better, up to this frame.
        verdicts: Checks of the probe's marker that have taken effect up to this frame. A replay
            repeats both at the same frames.
        warming_up: Whether the plan is still made from few frames.
        dropped: Frames that have not been segmented so far.
        late: Whether the mask came after the deadline.
    """

    frame: int
    time_s: float
    state: State
    labels: np.ndarray | None = field(default=None, repr=False)
    age_ms: float = 0.0
    stage_ms: Mapping[str, float] = field(default_factory=dict, repr=False)
    measurements: Mapping[str, Measurement] = field(default_factory=dict, repr=False)
    confidence: Confidences = field(default_factory=dict, repr=False)
    beat: Beat | None = None
    reason: str = ""
    warnings: tuple[str, ...] = field(default=(), repr=False)
    gate: float | None = None
    step: str = ""
    plan: int = 0
    looks: int = 0
    verdicts: int = 0
    warming_up: bool = False
    dropped: int = 0
    late: bool = False

    def to_mapping(self) -> dict[str, Any]:
        """Return the event for JSON, with shape and checksum of the labels, not their pixels."""
        found = {name: value for name, value in vars(self).items() if name != "labels"}
        found["measurements"] = {name: vars(each) for name, each in self.measurements.items()}
        found["confidence"] = {name: vars(each) for name, each in self.confidence.items()}
        found["stage_ms"] = {name: round(float(ms), 3) for name, ms in self.stage_ms.items()}
        found["age_ms"] = round(self.age_ms, 3)
        found["beat"] = None if self.beat is None else vars(self.beat)
        found["warnings"] = list(self.warnings)
        if self.labels is not None:
            found["labels"] = {"shape": list(self.labels.shape), "crc32": checksum(self.labels)}
        return found


def checksum(labels: np.ndarray) -> int:
    """CRC-32 of labels, in C order."""
    return zlib.crc32(labels.tobytes())

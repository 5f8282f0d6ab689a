"""Reports for tests: of labels whose areas are chosen."""

import cv2
import numpy as np

import makers
from bedside.report.record import BundleFacts, RunFacts, make_report
from bedside.volume import Box, ImageSequence, LabelMap

REGION = Box(0, 0, 10, 10)
STAGES = ("decode", "preprocess", "network", "postprocess", "total")
PICTURE = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def make_facts(*, source="cine.dcm", license_text="CC0"):
    bundle = BundleFacts("tiny", "1.0", "ab" * 32, 12345, license_text)
    return RunFacts(
        source=source, backend="openvino", precision="f32", threads=2, wall_s=0.5,
        startup_ms=812.34, peak_memory_mb=123.4, predicted_memory_mb=None, bundle=bundle,
    )  # fmt: skip


def make_areas(*areas):
    """Labels (F, 12, 12) in which structure 1 has these areas, and 2 has 3 pixels."""
    array = np.zeros((len(areas), 12, 12), np.uint8)
    for frame, area in zip(array, areas, strict=True):
        frame.reshape(-1)[:area] = 1
        frame.reshape(-1)[-3:] = 2
    return array


def sample_report(*areas, spacing_mm=None, frame_time_ms=40.0, warnings=(), place=None, **facts):
    place = place or {}
    times = np.arange(1.0, len(areas) + 1)
    stages = {stage: times if stage == "total" else times / 10 for stage in STAGES}
    return make_report(
        LabelMap(make_areas(*areas), spacing_mm),
        makers.LABELS,
        region=REGION,
        sequence=ImageSequence(
            (len(areas), 1, 12, 12), decode=None, frame_time_ms=frame_time_ms, **place
        ),
        stage_ms=stages,
        warnings=warnings,
        facts=make_facts(**facts),
    )

"""Steps down before the deadline is missed, and up again with hysteresis."""

import numpy as np
import pytest

import bedside
from bedside.runtime.execution_modes import certified_modes
from bedside.stream.ladder import DeadlineLadder, open_rungs
from processors_for_tests import NEEDS_BF16


def run(ladder, spans_ms, *, begin_s=0.0, per_s=30.0):
    """Feed times of frames; return where it stepped and the time it then was."""
    steps = []
    for index, span in enumerate(spans_ms):
        now = begin_s + index / per_s
        if ladder.note(now, span):
            steps.append((ladder.index, now))
    return steps


def test_it_steps_down_when_the_p95_nears_the_deadline():
    ladder = DeadlineLadder([20, 10, 5], deadline_ms=33)
    assert run(ladder, [20] * 60) == []
    steps = run(ladder, [30] * 8, begin_s=3)
    assert [index for index, _ in steps] == [1]


def test_one_slow_frame_is_no_reason_for_a_step():
    ladder = DeadlineLadder([20, 10], deadline_ms=33)
    assert run(ladder, [10] * 40 + [200] + [10] * 40) == []


def test_it_steps_up_again_after_a_while_and_not_before():
    ladder = DeadlineLadder([10, 5], deadline_ms=33)
    ((_, down_s),) = run(ladder, [40] * 10)[:1]
    steps = run(ladder, [5] * 150, begin_s=1.0)
    assert [index for index, _ in steps] == [0]
    assert steps[0][1] - down_s >= 2.0


def test_it_does_not_step_up_where_the_mode_above_would_miss():
    ladder = DeadlineLadder([30, 10], deadline_ms=33)
    run(ladder, [40] * 10)
    assert run(ladder, [10] * 300, begin_s=1.0) == []
    assert ladder.index == 1


def test_a_step_up_that_fails_makes_the_next_one_wait_longer():
    ladder = DeadlineLadder([10, 5], deadline_ms=33)
    times = []
    now = 0.0
    for _ in range(30 * 60):
        text = ladder.note(now, 40.0 if ladder.index == 0 else 5.0)
        if text and ladder.index == 0:
            times.append(now)
        now += 1 / 30
    waits = np.diff(times)
    assert len(waits) >= 2
    assert (waits[1:] > 1.5 * waits[:-1]).all()


def test_the_last_mode_stays_however_late_it_is():
    ladder = DeadlineLadder([10], deadline_ms=33)
    assert run(ladder, [100] * 60) == []


def test_a_ladder_has_certified_modes_alone_each_faster_and_the_loaded_one_first():
    with bedside.load("hc18-head", precision="f32", threads=1) as model:
        rungs, count, opened = open_rungs(model.bundle, model.segmenter.session, deadline_ms=33)
        certified = certified_modes(model.bundle, backend=model.segmenter.session.backend)
        assert rungs[0].name == "openvino f32"
        assert {tuple(rung.name.split()) for rung in rungs} <= set(certified)
        times = [rung.expected_ms for rung in rungs[:count]]
        assert times == sorted(times, reverse=True)
        for session in opened:
            session.close()
        assert model.segmenter.session.predict(np.zeros((1, 1, 192, 256), np.float32)).size


@NEEDS_BF16
@pytest.mark.parametrize(("deadline_ms", "has_time"), [(1e4, True), (1e-3, False)])
def test_one_thread_comes_first_where_it_has_time_and_last_where_not(deadline_ms, has_time):
    with bedside.load("camus-4ch", precision="bf16", threads=2) as model:
        with model.stream(deadline_ms=deadline_ms) as live:
            if has_time:
                assert all(step.endswith(", 1 thread") for step in live.steps)
                assert live.steps[0] == "openvino bf16, 1 thread"
            else:
                assert live.steps[0] == "openvino bf16"
                assert live.steps[-1] == f"{live.steps[-2]}, 1 thread"
            frame = np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)
            steps = (*live.steps, "openvino f32", "openvino bf16")  # a recording may name any
            events = [live.push(frame, t, step=step) for t, step in enumerate(steps)]
        assert tuple(event.step for event in events) == steps
        assert all(event.labels is not None for event in events)


def test_a_step_is_told_in_an_event_and_taken_by_the_next_frame():
    frames = np.random.default_rng(0).integers(0, 255, (30, 96, 128), np.uint8)
    with (
        bedside.load("hc18-head", precision="f32", threads=1) as model,
        model.stream(deadline_ms=1e-3) as live,
    ):
        events = [live.push(frame, index / 30) for index, frame in enumerate(frames)]
        if len(live.steps) == 1:
            pytest.skip("no certified mode is faster here")
    told = [event for event in events if "stepped down" in event.reason]
    assert told
    assert events[told[0].frame].step == live.steps[0]
    assert events[told[0].frame + 1].step == live.steps[1]
    assert all(event.late for event in events)

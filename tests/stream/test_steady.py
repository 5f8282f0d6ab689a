"""Masks steadied over time: they flicker less, follow motion, and never show what is gone."""

import cv2
import numpy as np
import pytest

import bedside
from bedside.cli.demo import find_cine
from bedside.io.source import open_source
from bedside.stream.record import EventFile, read_events, replay
from bedside.stream.steady import NEW_WEIGHT, WARNING, SteadyLogits

SIZE = 128
rng = np.random.default_rng(0)
TEXTURE = cv2.GaussianBlur(rng.random((2 * SIZE, 2 * SIZE), np.float32), (0, 0), 4)
TEXTURE = (TEXTURE - TEXTURE.min()) / np.ptp(TEXTURE)


def make_tensor(shift=0):
    """A textured image, moved to the right."""
    return TEXTURE[None, None, :SIZE, SIZE - shift : 2 * SIZE - shift].copy()


def make_logits(shift=0, noise=0.0):
    """A square of class 1, sure within and unsure at its border."""
    square = np.zeros((SIZE, SIZE), np.float32)
    square[40:80, 30 + shift : 70 + shift] = 1
    score = 6 * cv2.GaussianBlur(square, (0, 0), 3) - 3
    score += noise * cv2.GaussianBlur(
        rng.standard_normal(score.shape).astype(np.float32), (0, 0), 3
    )
    return np.stack([-score, score])


def blend(steady, tensor, logits, *, plan="a", time_s=0.0):
    return steady.blend(tensor, logits, plan=plan, time_s=time_s)


def test_a_still_image_flickers_less_and_stays_where_it_is():
    steady, alone, blended = SteadyLogits(), [], []
    for number in range(40):
        logits = make_logits(noise=4)
        before = logits.copy()
        found = blend(steady, make_tensor(), logits, time_s=number / 30)
        np.testing.assert_array_equal(logits, before)
        alone.append((logits[1] > logits[0]).sum())
        blended.append((found[1] > found[0]).sum())
    alone, blended = np.array(alone[10:], float), np.array(blended[10:], float)
    assert np.abs(np.diff(blended, 2)).mean() < 0.6 * np.abs(np.diff(alone, 2)).mean()
    assert blended.mean() == pytest.approx(alone.mean(), rel=0.02)


def test_what_moves_with_the_image_does_not_lag():
    steady = SteadyLogits()
    for number in range(10):
        logits = make_logits(2 * number)
        found = blend(steady, make_tensor(2 * number), logits, time_s=number / 30)
    columns = np.nonzero((found[1] > found[0]).any(axis=0))[0]
    wanted = np.nonzero((logits[1] > logits[0]).any(axis=0))[0]
    assert abs(columns.mean() - wanted.mean()) < 0.5  # 2 pixels a frame would be 3 behind


def test_another_image_and_what_the_network_is_sure_to_be_gone_count_alone():
    steady = SteadyLogits()
    blend(steady, make_tensor(), make_logits())
    other = 1 - make_tensor(60)
    np.testing.assert_array_equal(blend(steady, other, make_logits(5)), make_logits(5))
    gone = np.stack([np.full((SIZE, SIZE), 5.0), np.full((SIZE, SIZE), -5.0)]).astype(np.float32)
    found = blend(steady, other, gone, time_s=1 / 30)
    assert (found[1] > found[0]).sum() < 0.3 * (make_logits()[1] > 0).sum()


@pytest.mark.parametrize("changes", [{"plan": "b"}, {"time_s": 0.5}])
def test_frames_of_another_plan_or_long_ago_are_not_blended(changes):
    steady = SteadyLogits()
    blend(steady, make_tensor(), make_logits())
    logits = make_logits(noise=2)
    found = blend(steady, make_tensor(), logits, **{"time_s": 1 / 30, **changes})
    np.testing.assert_array_equal(found, logits)
    again = blend(steady, make_tensor(), make_logits(), **{"time_s": 2 / 30, **changes})
    assert not np.array_equal(again, make_logits())
    steady.restart()
    np.testing.assert_array_equal(blend(steady, make_tensor(), logits, time_s=3 / 30), logits)


def test_where_both_agree_the_new_frame_has_its_weight():
    steady = SteadyLogits()
    old, new = make_logits(), 1.5 * make_logits()
    blend(steady, make_tensor(), old)
    found = blend(steady, make_tensor(), new, time_s=1 / 30)
    np.testing.assert_allclose(found, old + NEW_WEIGHT * (new - old), atol=1e-4)


def test_areas_of_a_cine_flicker_half_as_much_and_a_recording_is_played_again(tmp_path):
    film, path = open_source(find_cine()).sequence, tmp_path / "run.jsonl"
    frames = list(film)

    def play(model, **settings):
        with model.stream(sample=film, deadline_ms=1e4, **settings) as live:
            return [live.push(frame, index / 30) for index, frame in enumerate(frames)]

    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        alone = play(model)
        with EventFile(path) as file:
            steady = play(model, steady=True, on_event=file.write)
        with model.stream(sample=film, deadline_ms=1e4, steady=True) as live:
            assert all(each.is_same for each in replay(read_events(path), frames, live))
    unrest = []
    for events in (alone, steady):
        areas = [[each.area_px for each in event.measurements.values()] for event in events]
        unrest.append(np.abs(np.diff(np.array(areas, float), 2, axis=0)).mean(axis=0))
    assert np.mean(unrest[1] / unrest[0]) < 0.55
    assert WARNING in steady[0].warnings
    assert WARNING not in alone[0].warnings

"""A stream is turned as a whole, and a change of mind is told."""

import numpy as np

from bedside.pipeline.segmenter import Segmenter
from bedside.stream.planner import CausalPlanner
from sided_network import SPEC, Sided, make_film


def run(frames):
    segmenter = Segmenter(SPEC, Sided())
    planner = CausalPlanner(SPEC, finish=segmenter.check_marker)
    found = []
    for index, frame in enumerate(frames):
        found.append(planner.plan_for(frame, index / 30))
        planner.add(frame, index / 30)
    planner.close()
    return found


def test_a_mirrored_stream_is_turned_from_its_first_frame_on():
    found = run(make_film(20, mirrored=True))
    assert all(planned.plan.mirrored for planned in found)
    assert not any(planned.reason for planned in found)


def test_an_odd_first_frame_is_corrected_in_the_warm_up_and_told_once():
    frames = list(make_film(20))
    frames[0] = np.ascontiguousarray(frames[0][..., ::-1])
    found = run(frames)
    assert found[0].plan.mirrored
    assert not found[-1].plan.mirrored
    told = [planned.reason for planned in found if planned.reason]
    assert told == ["the view turned out to be mirrored the other way"]

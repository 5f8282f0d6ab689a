import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from bedside.pipeline.frames.fan import bounding_box, find_ends, find_fan


def make_sector(frames=4, height=200, width=300, *, apex=(20, 150), reach=150, half_angle=0.7):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    radius = np.hypot(rows - apex[0], columns - apex[1])
    angle = np.abs(np.arctan2(columns - apex[1], rows - apex[0]))
    inside = (radius < reach) & (angle < half_angle)
    return np.where(inside, rng.integers(20, 160, (frames, height, width)), 0).astype(np.uint8)


def overlap(outline, truth):
    return 2 * ((outline > 0) & truth).sum() / ((outline > 0).sum() + truth.sum())


@pytest.mark.parametrize("frames", [1, 8])
def test_the_sector_is_found_among_text_and_buttons(frames):
    stack = make_sector(frames)
    truth = stack.max(axis=0) > 0
    for frame in stack:
        cv2.putText(frame, "MI 0.9", (240, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255)
        frame[190:198, 10:290] = 90
    outline = find_fan(list(stack), floor=4)
    assert overlap(outline, truth) > 0.95
    box = bounding_box(outline, margin=0)
    assert box.right < 270
    assert box.bottom < 185


def test_a_side_in_shadow_is_found_by_its_mirror_image():
    stack = make_sector()
    truth = stack.max(axis=0) > 0
    stack[:, :, 190:] = 0
    outline = find_fan(list(stack), floor=4)
    assert overlap(outline, truth) > 0.93


def test_the_ends_of_rows_have_the_hull_of_all_pixels():
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = cv2.blur(rng.random((60, 80)), (9, 9)) > 0.52
        mask[rng.integers(0, 60)] = False
        outlines = np.zeros((2, 60, 80), np.uint8)
        ways = cv2.findNonZero(mask.view(np.uint8)), find_ends(mask)
        for outline, points in zip(outlines, ways, strict=True):
            cv2.fillConvexPoly(outline, cv2.convexHull(points), 1)
        assert np.count_nonzero(outlines[0]) > np.count_nonzero(mask)
        assert np.array_equal(*outlines)
    assert find_ends(np.zeros((3, 4), np.uint8)).shape == (0, 2)


def test_a_frame_without_a_sector_has_none():
    text = np.zeros((200, 300), np.uint8)
    cv2.putText(text, "no image", (20, 100), cv2.FONT_HERSHEY_SIMPLEX, 1, 255)
    assert find_fan([text], floor=4) is None
    assert find_fan([np.zeros((200, 300), np.uint8)] * 3, floor=4) is None


def test_a_still_drawing_beside_a_moving_sector_is_left_out():
    stack = make_sector()
    stack[:, 60:180, 0:40] = 200
    outline = find_fan(list(stack), floor=4)
    assert not outline[60:180, 0:30].any()


def test_the_real_machines_text_is_outside_and_its_sector_inside():
    frames = dcmread(get_testdata_file("examples_ybr_color.dcm", download=False)).pixel_array
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[::4]]
    box = bounding_box(find_fan(grey, floor=4), margin=0)
    # Read off the picture: text ends at column 40 and begins again at 295, buttons at row 226;
    # the heart spans columns 125 to 215 and rows 40 to 195.
    assert 40 < box.left < 125
    assert 215 < box.right < 295
    assert box.top < 40
    assert 195 < box.bottom < 226

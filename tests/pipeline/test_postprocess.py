import numpy as np

from bedside.pipeline.postprocess import apply_postprocess
from bedside.spec import FillHoles, KeepLargest


def test_islands_go_and_the_largest_piece_of_each_label_stays():
    labels = np.zeros((10, 10), np.uint8)
    labels[1:5, 1:5] = 1
    labels[8, 8] = 1
    labels[7:9, 0:3] = 2
    before = labels.copy()
    kept, _ = apply_postprocess(labels, [KeepLargest()], label_values=(1, 2))
    assert kept[8, 8] == 0
    assert (kept == 1).sum() == 16
    assert (kept == 2).sum() == 6
    assert (labels == before).all()


def test_pieces_that_touch_at_a_corner_are_one():
    labels = np.zeros((6, 6), np.uint8)
    labels[0:2, 0:2] = 1
    labels[2:4, 2:4] = 1
    assert (apply_postprocess(labels, [KeepLargest()], label_values=(1,))[0] == labels).all()


def test_holes_are_filled_but_never_with_another_label_inside():
    labels = np.zeros((9, 9), np.uint8)
    labels[1:8, 1:8] = 2
    labels[3:6, 3:6] = 1
    labels[2, 2] = 0
    filled, _ = apply_postprocess(labels, [FillHoles()], label_values=(1, 2))
    assert filled[2, 2] == 2
    assert (filled[3:6, 3:6] == 1).all()


def test_a_step_that_names_labels_leaves_the_others():
    labels = np.zeros((5, 5), np.uint8)
    labels[0, 0] = labels[4, 4] = labels[4, 3] = 1
    assert (
        apply_postprocess(labels, [KeepLargest(labels=(2,))], label_values=(1, 2))[0] == labels
    ).all()


def test_a_frame_without_a_label_passes_unchanged():
    labels = np.zeros((5, 5), np.uint8)
    steps = [KeepLargest(), FillHoles()]
    assert not apply_postprocess(labels, steps, label_values=(1, 2))[0].any()

from dataclasses import replace

import numpy as np

from bedside.pipeline.postprocess import apply_postprocess
from bedside.pipeline.segmenter import Segmenter
from bedside.spec import (
    Code,
    DeploymentSpec,
    FillHoles,
    Fit,
    Grey,
    InputSpec,
    KeepLargest,
    KeepLargestInScan,
    Label,
    ScaleRange,
    named_spec,
)
from bedside.volume import ImageSequence


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


class _Bright:
    """A network that draws what is above one half."""

    backend, precision, threads = "test", "f32", 1

    def predict(self, tensor, out=None):
        return np.concatenate([np.full_like(tensor, 0.5), tensor], axis=1)


def test_the_largest_component_of_a_scan_is_found_over_all_slices():
    """A network for frames segments slices; only of the whole scan it is seen what is apart."""
    code = Code("1", "99TEST", "thing")
    spec = DeploymentSpec(
        name="slices",
        version="1",
        task="finds what is bright",
        input=InputSpec("MR", 1, (16, 16)),
        labels=(Label(1, "lesion", (255, 0, 0), code, code),),
        preprocess=(Grey(), Fit(), ScaleRange(source="nominal")),
        model=replace(named_spec("nano"), logit_stride=1, stem_stride=1),
        postprocess=(KeepLargestInScan(),),
    )
    scan = np.zeros((5, 1, 16, 16), np.uint8)
    scan[0, 0, 2:9, 2:9] = 255  # the largest of any slice
    scan[2:5, 0, 4:9, 4:9] = 255  # more over its slices
    scan[3, 0, 12:15, 12:15] = 255
    found = {}
    for third_axis in ("space", "time"):
        sequence = ImageSequence(
            scan.shape, scan.__getitem__, third_axis=third_axis, modality="MR",
            spacing_mm=(2.0, 2.0), slice_spacing_mm=5.0 if third_axis == "space" else None,
        )  # fmt: skip
        found[third_axis] = Segmenter(spec, _Bright()).segment_sequence(sequence)
    drawn = found["space"].labels.array
    kept = scan[:, 0] > 0
    assert (found["time"].labels.array == kept).all()
    kept[0] = kept[3, 12:] = False
    assert (drawn == kept).all()
    assert [change.text for change in found["space"].changes] == [
        "2 components of lesion removed, 1.2 ml"
    ]
    assert found["time"].changes == ()

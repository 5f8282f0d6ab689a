import dataclasses

import numpy as np
import pytest

from bedside.datasets import Case
from bedside.io.source import open_source
from bedside.segment import Segmenter
from bedside.spec import Fit, Grey, ScalePercentile
from bedside.training.dataset import load_case
from makers import write_nifti
from models_for_tests import make_spec


class Listening:
    """A network that keeps what it is shown."""

    backend, precision, threads = "test", "f32", 1

    def __init__(self, spec):
        self.spec, self.seen = spec, []

    def predict(self, tensor):
        self.seen.append(tensor)
        stride = self.spec.model.logit_stride
        sizes = [size // stride for size in tensor.shape[2:]]
        return np.zeros((1, self.spec.model.num_classes, *sizes), np.float32)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_training_sees_slices_of_a_scan_exactly_as_use_does(tmp_path, neighbours):
    rng = np.random.default_rng(0)
    # Slices of very different brightness: a scale for each by itself would show.
    array = (rng.random((32, 40, 5)) * [20, 60, 110, 180, 250]).astype(np.uint8)
    write_nifti(array, tmp_path / "scan.nii.gz")
    write_nifti(np.zeros_like(array), tmp_path / "truth.nii.gz")
    spec = make_spec()
    if neighbours:
        spec = dataclasses.replace(
            spec,
            preprocess=(Fit(), ScalePercentile()),
            input=dataclasses.replace(spec.input, modality="MR", channels=3, neighbours=1),
            model=dataclasses.replace(spec.model, in_channels=3),
        )
    else:
        spec = dataclasses.replace(spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    case = Case("scan", "patient", (tmp_path / "scan.nii.gz",), tmp_path / "truth.nii.gz")
    examples = load_case(case, spec)
    network = Listening(spec)
    Segmenter(spec, network).segment_sequence(open_source(case.image).sequence)
    assert len(examples) == len(network.seen) == 5
    for example, seen in zip(examples, network.seen, strict=True):
        np.testing.assert_array_equal(example.image, seen[0])
    if neighbours:
        inner, above = examples[2].image, examples[3].image
        np.testing.assert_array_equal(inner[2], above[1])
        np.testing.assert_array_equal(examples[0].image[0], examples[0].image[1])

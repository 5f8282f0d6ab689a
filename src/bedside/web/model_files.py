"""Files of one bundle that the page needs: spec, graph, and a frame to check itself with."""

import json
from dataclasses import replace

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.evaluation.generated import make_samples
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.spec import DeploymentSpec, to_mapping

SCHEMA_VERSION = 1
PREPROCESS = ("grey", "rgb", "crop_fan", "crop_centre", "fit", "scale_percentile")
POSTPROCESS = ("keep_largest", "fill_holes", "drop_small", "fit_ellipse")
"""Steps that the page knows, by name: those of `static/pipeline/model.js`."""


def check_supported(spec: DeploymentSpec) -> None:
    """Refuse a bundle that the page cannot run.

    Raises:
        UsageError: If it takes scans, several images, or has a step that the page does not
            know.
    """
    if spec.model.spatial_dims != 2:
        raise UsageError(
            f"{spec.name} takes whole scans, and the page runs networks for frames only. Serve it "
            "with `bedside serve`."
        )
    if spec.input.neighbours:
        raise UsageError(
            f"{spec.name} takes the neighbours of each slice, and the page has frames only. Serve "
            "it with `bedside serve`."
        )
    if spec.input.channel_names:
        raise UsageError(
            f"{spec.name} takes {spec.input.channels} images on one grid, and the page opens one. "
            "Use `bedside segment --channels`."
        )
    known = {"preprocess": PREPROCESS, "refine": (), "postprocess": POSTPROCESS, "priors": ()}
    for name, steps in known.items():
        for step in getattr(spec, name):
            if step.step not in steps:
                raise UsageError(
                    f'{spec.name} has the step "{step.step}", which the page does not know. Serve '
                    "it with `bedside serve`."
                )


def make_model_files(bundle: Bundle) -> dict[str, bytes]:
    """Return what the page reads of a bundle, by file name.

    Among it are a generated frame and its labels as this package computes them in f32: the page
    runs a model only after it got the same labels.

    Raises:
        UsageError: As `check_supported`.
        SignatureError: If this machine runs signed bundles only, and this one is not.
    """
    spec = bundle.spec
    check_supported(spec)
    frame, labels = _make_check(bundle)
    about = {
        "schema_version": SCHEMA_VERSION,
        "bundle": {"name": spec.name, "version": spec.version, "sha256": bundle.sha256},
        "spec": to_mapping(spec),
        "gate": None if bundle.gate is None else to_mapping(bundle.gate),
        "confidence": None if bundle.confidence is None else to_mapping(bundle.confidence),
        "card": {
            "data": bundle.card.data,
            "source": bundle.card.source,
            "license": bundle.card.license,
            "limits": list(bundle.card.limits),
            "disclaimer": bundle.card.disclaimer,
        },
        "check": {"height": frame.shape[0], "width": frame.shape[1], "channels": frame.shape[2]},
    }
    return {
        "model.json": (json.dumps(about, indent=1, allow_nan=False) + "\n").encode(),
        "graph.onnx": bundle.read_graph("f32"),
        "check-frame.bin": frame.tobytes(),
        "check-labels.bin": labels.tobytes(),
    }


def _make_check(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """A generated frame, (H, W, C) uint8, and its labels, (H, W) uint8."""
    opened = open_segmenter(bundle, precision="f32", threads=1)
    # The page checks its steps with the frame as it is, whichever way its marker points.
    segmenter = Segmenter(replace(bundle.spec, marker=None), opened.session)
    sequence = next(make_samples(bundle.spec, count=1)).sequence
    frame = sequence.decode(0)
    if frame.dtype != np.uint8:
        raise UsageError(
            f"{bundle.spec.name} takes {bundle.spec.input.modality} in its own units, and the page "
            "has pictures of 8 bits only. Serve it with `bedside serve`."
        )
    alone = replace(sequence, shape=(1, *sequence.shape[1:]))
    labels = segmenter.segment_frame(frame, segmenter.plan(alone)).labels
    return np.ascontiguousarray(np.moveaxis(frame, 0, -1)), labels

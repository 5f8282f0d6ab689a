"""Which pipeline a deployment runs: the one place that tells frames from scans."""

from collections.abc import Mapping
from importlib import import_module

from bedside.pipeline.protocol import Pipeline
from bedside.runtime import Session
from bedside.spec import DeploymentSpec
from bedside.spec.confidence import Confidence
from bedside.spec.gate import Gate

PIPELINES: Mapping[int, str] = {
    2: "bedside.pipeline.frames.pipeline:FramePipeline",
    3: "bedside.pipeline.volumes.pipeline:VolumePipeline",
}
"""By the number of a network's axes; the other kind is not even imported."""


def create_pipeline(
    spec: DeploymentSpec,
    session: Session,
    gate: Gate | None = None,
    confidence: Confidence | None = None,
) -> Pipeline:
    """The pipeline for the axes of a deployment's network.

    Args:
        spec: The steps around the network, and its labels.
        session: The network, ready to run.
        gate: Tells foreign images; None not to judge any.
        confidence: How sure masks are; None not to predict it.
    """
    module, _, name = PIPELINES[spec.model.spatial_dims].partition(":")
    pipeline: Pipeline = getattr(import_module(module), name)(spec, session, gate, confidence)
    return pipeline

"""ONNX metadata: names, layout, stride and labels, for programs that do not read the spec."""

import json

import onnx

from bedside.spec import DeploymentSpec

SCHEMA_VERSION = "1"


def metadata_of(
    spec: DeploymentSpec, *, input_name: str = "image", output_name: str = "logits"
) -> dict[str, str]:
    """Metadata of a graph by key; lists are JSON.

    Example:
        >>> from bedside.bundle import find_bundle, read_bundle
        >>> found = metadata_of(read_bundle(find_bundle("hc18-head")).spec)
        >>> found["input_layout"], found["input_size_px"], found["labels"]
        ('NCHW', '[192, 256]', '[{"value": 1, "name": "Fetal head"}]')
    """
    layout = {2: "NCHW", 3: "NCDHW"}[spec.model.spatial_dims]
    labels = [{"value": label.value, "name": label.name} for label in spec.labels]
    return {
        "bedside_metadata": SCHEMA_VERSION,
        "name": spec.name,
        "version": spec.version,
        "modality": spec.input.modality,
        "input_name": input_name,
        "input_layout": layout,
        "input_channels": str(spec.input.channels),
        "input_size_px": json.dumps(spec.input.size_px),
        "output_name": output_name,
        "output_layout": layout,
        "logit_stride": str(spec.model.logit_stride),
        "labels": json.dumps(labels),
    }


def with_metadata(graph: bytes, spec: DeploymentSpec) -> bytes:
    """The same serialized graph with the metadata of a deployment."""
    model = onnx.load_from_string(graph)
    names = {"input_name": model.graph.input[0].name, "output_name": model.graph.output[0].name}
    onnx.helper.set_model_props(model, metadata_of(spec, **names))
    content: bytes = model.SerializeToString()
    return content

"""The model way of turning a trained network into a graph, each checked before it is let out."""

from bedside.export.onnx import export_onnx
from bedside.export.parity import check_parity

__all__ = ["check_parity", "export_onnx"]

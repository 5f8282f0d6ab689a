"""The model way of turning a trained network into a graph, each checked before it is let out."""

from bedside.export.onnx import export_onnx
from bedside.export.parity import check_parity
from bedside.export.rebuild import rebuild_network, restore_statistics

__all__ = ["check_parity", "export_onnx", "rebuild_network", "restore_statistics"]

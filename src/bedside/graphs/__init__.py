"""Edits of ONNX graphs: how weights are stored, and faster equivalents of operations."""

"""What is stored in an ONNX graph and how: integers with a scale, halves, short names."""

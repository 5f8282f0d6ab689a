"""Export of trained networks to ONNX and other formats, each compared with its source."""

"""The Open Inference Protocol, version 2: tensors in and out, for clients of Triton and KServe.

Source: KServe, "Open Inference Protocol (V2)"; Triton, "Binary Tensor Data Extension".
"""

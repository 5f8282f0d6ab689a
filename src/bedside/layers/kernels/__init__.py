"""Sparse attention on a GPU: window, overlap and routed attention as one operation."""

from bedside.layers.kernels.choice import always_kernels, has_kernel
from bedside.layers.kernels.read import read_regions, read_windows

__all__ = ["always_kernels", "has_kernel", "read_regions", "read_windows"]

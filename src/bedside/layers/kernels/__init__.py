"""Sparse attention on a GPU: window, overlap and routed attention as one operation."""

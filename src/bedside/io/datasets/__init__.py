"""Folders of images with expert labels: which layouts are known, and what they hold."""

from bedside.io.datasets.case import Case, read_truth
from bedside.io.datasets.table import LAYOUTS, Layout, detect_layout, list_cases

__all__ = ["LAYOUTS", "Case", "Layout", "detect_layout", "list_cases", "read_truth"]

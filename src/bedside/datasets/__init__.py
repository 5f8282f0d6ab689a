"""Data sets with expert labels: their layouts and cases."""

from bedside.datasets.case import Case, read_case, read_truth, read_values, relabel_cases
from bedside.datasets.table import (
    LAYOUTS,
    Layout,
    detect_layout,
    list_cases,
    list_recipe_cases,
    relabel_for,
)

__all__ = [
    "LAYOUTS", "Case", "Layout", "detect_layout", "list_cases", "list_recipe_cases", "read_case",
    "read_truth", "read_values", "relabel_cases", "relabel_for",
]  # fmt: skip

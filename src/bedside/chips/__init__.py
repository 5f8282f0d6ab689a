"""Profiles of edge chips as data: what their compilers take, by whose documentation."""

from bedside.chips.profile import Chip, Limits, Operation, Source, find_chip, list_chips, read_chip

__all__ = ["Chip", "Limits", "Operation", "Source", "find_chip", "list_chips", "read_chip"]

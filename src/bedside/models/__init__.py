"""Networks, one architecture per file, built from their spec by `create`."""

from bedside.models.table import (
    ARCHITECTURES,
    Architecture,
    count_parameters,
    create,
    find_structure,
)
from bedside.models.trained import TrainedNetwork
from bedside.spec.named import NAMES, named_spec

__all__ = [
    "ARCHITECTURES",
    "NAMES",
    "Architecture",
    "TrainedNetwork",
    "count_parameters",
    "create",
    "find_structure",
    "named_spec",
]

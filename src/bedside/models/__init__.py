"""Networks, one architecture per file, built from their spec by `create`."""

from bedside.models.table import ARCHITECTURES, count_parameters, create
from bedside.models.trained import TrainedNetwork
from bedside.spec.named import NAMES, named_spec

__all__ = ["ARCHITECTURES", "NAMES", "TrainedNetwork", "count_parameters", "create", "named_spec"]

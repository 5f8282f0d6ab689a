"""Networks, one architecture per file, built from their spec by `create`."""

from bedside.models.table import ARCHITECTURES, count_parameters, create

__all__ = ["ARCHITECTURES", "count_parameters", "create"]

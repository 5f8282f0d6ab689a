"""From label map to label map on the source grid: repairs and priors, and a list of all changes."""

from bedside.pipeline.postprocess.apply import apply_postprocess
from bedside.pipeline.postprocess.changes import EditLog, LabelEdit
from bedside.pipeline.postprocess.grid import LabelGrid, grid_of

__all__ = ["EditLog", "LabelEdit", "LabelGrid", "apply_postprocess", "grid_of"]

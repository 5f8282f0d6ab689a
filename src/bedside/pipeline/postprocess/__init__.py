"""Postprocessing of label maps: repairs, anatomical priors, and a log of all edits."""

from bedside.pipeline.postprocess.apply import apply_postprocess
from bedside.pipeline.postprocess.changes import EditLog, LabelEdit
from bedside.pipeline.postprocess.grid import LabelGrid, grid_of

__all__ = ["EditLog", "LabelEdit", "LabelGrid", "apply_postprocess", "grid_of"]

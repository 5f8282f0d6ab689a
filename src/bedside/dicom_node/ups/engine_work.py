"""The work of a work item: its series are segmented by the engine, and written as SEG and SR."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bedside.dicom_node.images import segment_images
from bedside.dicom_node.ups.work_item import WorkItem
from bedside.errors import UsageError
from bedside.service.engine import Engine

_BUSY_S = 0.2


class EngineWork:
    """Segments the series of work items, for any number of threads.

    SEG and SR follow from the images and the bundle alone, so an item that is segmented again after
    a kill gives the same files.

    Args:
        engine: What segments.
        models: Name of the model for each code of a scheduled work item, such as "121726^DCM", or
            for each worklist label; "*" for any other.
        with_sr: Write a DICOM SR of trained models too.
    """

    def __init__(self, engine: Engine, models: Mapping[str, str], *, with_sr: bool = True) -> None:
        self._engine, self._models, self._with_sr = engine, dict(models), with_sr

    def find_model(self, item: WorkItem) -> str | None:
        """Return the name of the model for a work item, or None if it is for somebody else."""
        for name in (*item.codes, item.worklist, "*"):
            if name in self._models:
                return self._models[name]
        return None

    def wants(self, item: WorkItem) -> bool:
        """Whether there is a model for a work item."""
        return self.find_model(item) is not None

    def __call__(
        self, item: WorkItem, inputs: Path, outputs: Path, report: Callable[[float], None]
    ) -> None:
        """Segment each image of each series.

        Args:
            item: The work item.
            inputs: A folder for each series.
            outputs: Where SEG and SR go, in a folder for each image.
            report: Called with the part done; what it raises ends the work.

        Raises:
            InputError: If no image can be segmented.
            UsageError: If there is no model for it.
        """
        model = self.find_model(item)
        if model is None:
            raise UsageError("no model is configured for the codes of this work item.")
        segment_images(
            self._engine, model, sorted(inputs.iterdir()), outputs, with_sr=self._with_sr,
            on_busy=lambda: time.sleep(_BUSY_S), report=report,
        )  # fmt: skip

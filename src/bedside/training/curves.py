"""Loss and Dice over the epochs, as a picture that any browser shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bedside.atomic import write_text
from bedside.io.curves import Color, draw_curves
from bedside.spec import Label

LOSS_COLOR: Color = (110, 118, 128)
WIDTH, HEIGHT = 720, 190


def write_curves(path: Path, log: Sequence[Mapping[str, Any]], labels: Sequence[Label]) -> None:
    """Draw the log of a run: its loss above, the validation Dice of each structure below.

    A plot appears once it has two points.

    Args:
        path: The SVG to write.
        log: Records with "epoch", "loss" and sometimes "dice", a value a structure.
        labels: The structures, for their colours.
    """
    losses = {"loss": (LOSS_COLOR, [record["loss"] for record in log])}
    measured = [record for record in log if "dice" in record]
    scores = {
        label.name: (label.color, [record["dice"][label.name] for record in measured])
        for label in labels
    }
    plots = [
        draw_curves([record["epoch"] for record in records], curves, x_title="epoch", y_title=title)
        for records, curves, title in (
            (log, losses, "training loss"),
            (measured, scores, "validation Dice"),
        )
        if len(records) > 1
    ]
    stacked = "".join(
        f'<svg y="{HEIGHT * row}" width="{WIDTH}" height="{HEIGHT}">{plot}</svg>'
        for row, plot in enumerate(plots)
    )
    write_text(
        path,
        f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
        f'viewBox="0 0 {WIDTH} {HEIGHT * 2}"><rect width="100%" height="100%" fill="white"/>'
        f"{stacked}</svg>\n",
    )

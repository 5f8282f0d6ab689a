"""Plot of loss and Dice over the epochs, as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bedside.report.curves import WIDTH, Color, draw_curves, find_height
from bedside.spec import Label
from bedside.system.atomic import write_text

LOSS_COLOR: Color = (160, 168, 178)


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
    shown = [
        (records, curves, title)
        for records, curves, title in (
            (log, losses, "training loss"),
            (measured, scores, "validation Dice"),
        )
        if len(records) > 1
    ]
    parts, top = [], 0
    for records, curves, title in shown:
        epochs = [record["epoch"] for record in records]
        height = find_height(list(curves), title)
        plot = draw_curves(epochs, curves, x_title="epoch", y_title=title)
        parts.append(f'<svg y="{top}" width="{WIDTH}" height="{height}">{plot}</svg>')
        top += height
    write_text(
        path,
        f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
        f'viewBox="0 0 {WIDTH} {max(top, 1)}"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n",
    )

"""Loss and Dice over the epochs, as a picture that any browser shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bedside.atomic import write_text

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 360, 48, 16, 150, 36
COLORS = ("#888888", "#d33c3c", "#2f9e44", "#2f6fd3", "#c77700", "#7a3fc2")


def write_curves(path: Path, log: Sequence[dict[str, Any]]) -> None:
    """Draw the log of a run: its loss, and the Dice of each structure where it was measured.

    Args:
        path: The SVG to write.
        log: Records with "epoch", "loss" and sometimes "dice", a value a structure.
    """
    series = {"loss": [(record["epoch"], record["loss"]) for record in log]}
    for record in log:
        for name, value in record.get("dice", {}).items():
            series.setdefault(f"Dice {name}", []).append((record["epoch"], value))
    last = max((record["epoch"] for record in log), default=1)
    lines = [_axes(last)]
    for row, (name, points) in enumerate(series.items()):
        lines.append(_curve(name, points, last=last, row=row))
    content = "\n".join(lines)
    write_text(
        path,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{content}\n</svg>\n',
    )


def _place(epoch: float, value: float, last: int) -> tuple[float, float]:
    x = LEFT + (WIDTH - LEFT - RIGHT) * epoch / max(last, 1)
    y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(value, 0.0), 1.0)
    return round(x, 1), round(y, 1)


def _axes(last: int) -> str:
    parts = []
    for tenth in range(0, 11, 2):
        (x0, y), (x1, _) = _place(0, tenth / 10, last), _place(last, tenth / 10, last)
        parts.append(f'<path d="M{x0} {y}H{x1}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{tenth / 10}</text>')
    for epoch in sorted({0, last // 2, last}):
        x, y = _place(epoch, 0, last)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{epoch}</text>')
    x, y = _place(last / 2, 0, last)
    parts.append(f'<text x="{x}" y="{y + 32}" text-anchor="middle">epoch</text>')
    return "\n".join(parts)


def _curve(name: str, points: list[tuple[int, float]], *, last: int, row: int) -> str:
    color = COLORS[row % len(COLORS)]
    path = " ".join(f"{x},{y}" for x, y in (_place(e, v, last) for e, v in points))
    x, y = WIDTH - RIGHT + 12, TOP + 16 + 18 * row
    label = f"{name} {points[-1][1]:.3f}" if points else name
    return (
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>\n'
        f'<text x="{x}" y="{y}" fill="{color}">{label}</text>'
    )

"""Axes, grid and frame of a log-log plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 330
LEFT, BOTTOM = 62, HEIGHT - 40


@dataclass(frozen=True)
class LogAxes:
    """Axes in SVG, between whole powers of ten.

    Attributes:
        x_powers: Powers of ten at the left and right end.
        y_powers: Powers of ten at the lower and upper end.
        right: Where the axes end; what is beyond is for names.
        top: Where they end above; over it stands the title.
    """

    x_powers: tuple[int, int]
    y_powers: tuple[int, int]
    right: int
    top: int = 26

    @classmethod
    def around(
        cls, xs: Sequence[float], ys: Sequence[float], *, margin: int, top: int = 26
    ) -> "LogAxes":
        """Choose axes that hold positive values.

        Args:
            xs: Values along x.
            ys: Values along y.
            margin: Room for names at the right, in pixels.
            top: Room for titles above, in pixels.
        """
        return cls(_decades(xs), _decades(ys), WIDTH - margin, top)

    def x(self, value: float) -> float:
        """Position of a value, in pixels from the left."""
        low, high = self.x_powers
        return LEFT + (math.log10(value) - low) / (high - low) * (self.right - LEFT)

    def y(self, value: float) -> float:
        """Position of a value, in pixels from the top."""
        low, high = self.y_powers
        return BOTTOM - (math.log10(value) - low) / (high - low) * (BOTTOM - self.top)

    def draw(self, inside: Sequence[str], *, x_title: str, y_title: str) -> str:
        """Draw the frame, and in it what was made for it.

        Args:
            inside: Pieces of SVG.
            x_title: What x is, with its unit.
            y_title: What y is, with its unit.

        Returns:
            An `<svg>` element that needs nothing beside it.
        """
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" font-family="sans-serif" '
            f'font-size="11" fill="#59636e"><rect width="100%" height="100%" fill="white"/>'
        ]
        for power in range(self.y_powers[0], self.y_powers[1] + 1):
            place = self.y(10.0**power)
            parts.append(
                f'<path d="M{LEFT} {place:.1f}H{self.right}" stroke="#e3e8ed"/>'
                f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">'
                f"{10.0**power:,g}</text>"
            )
        for power in range(self.x_powers[0], self.x_powers[1] + 1):
            place = self.x(10.0**power)
            # Counts, which reach millions, stand along this axis.
            label = f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"
            parts.append(
                f'<path d="M{place:.1f} {self.top}V{BOTTOM}" stroke="#e3e8ed"/>'
                f'<text x="{place:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{label}</text>'
            )
        parts.append(
            f'<text x="{self.right}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_title)}</text>'
            f'<text x="4" y="14">{escape(y_title)}</text>'
        )
        return "".join([*parts, *inside, "</svg>"])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten around positive values, at least one decade apart.

    Example:
        >>> _decades([3.0, 250.0]), _decades([0.3, 25.0])
        ((0, 3), (-1, 2))
    """
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))

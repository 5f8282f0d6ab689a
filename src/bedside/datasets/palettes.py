"""Palettes of masks saved as PNG: a number must stand for one colour in all of them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bedside.datasets.case import Case
from bedside.errors import DataError
from bedside.io.raster import read_colors


def check_palettes(cases: Sequence[Case]) -> None:
    """Refuse masks whose palettes number their colours differently.

    Programs that reduce a coloured picture to a palette number its colours in the order in which
    they meet them: what is 1 in one file is 2 in the next, and one structure would be learned or
    scored as another.

    Args:
        cases: The cases of a data set; masks that are no PNG with a palette of colours are passed.

    Raises:
        DataError: If a number has another colour in another mask.
        FormatError: If a mask is damaged.
    """
    pictures = [case for case in cases if case.truth.suffix.lower() == ".png"]
    seen: dict[int, tuple[tuple[int, int, int], Case]] = {}
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = pool.map(lambda case: read_colors(case.truth), pictures)
        for case, colors in zip(pictures, found, strict=True):
            for number, color in (colors or {}).items():
                first_color, first = seen.setdefault(number, (color, case))
                if color != first_color:
                    raise DataError(
                        f"the palettes of {first.truth} and {case.truth} differ: number {number} "
                        f"is {first_color} in one and {color} in the other, so numbers are not "
                        "labels. Save each pixel as the number of its structure."
                    )

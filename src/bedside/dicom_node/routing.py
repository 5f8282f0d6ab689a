"""Which model a series is for."""

import fnmatch
from collections.abc import Sequence
from dataclasses import fields

from bedside.dicom_node.config import Route
from bedside.dicom_node.series import Series
from bedside.dicom_node.traits import SeriesTraits


def find_route(series: Series, routes: Sequence[Route]) -> Route | None:
    """Return the first route that fits a series, or None.

    Args:
        series: What its images say, and who sent it.
        routes: In their order.

    Example:
        >>> routes = [Route("acdc", modality="MR", description="*sax*"), Route("camus")]
        >>> find_route(Series(modality="US"), routes).model
        'camus'
    """
    return next((route for route in routes if _fits(series, route)), None)


def _fits(series: Series, route: Route) -> bool:
    return all(
        not pattern or fnmatch.fnmatchcase(value.strip().lower(), pattern.strip().lower())
        for name in (each.name for each in fields(SeriesTraits))
        for pattern, value in [(getattr(route, name), getattr(series, name))]
    )

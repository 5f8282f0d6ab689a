"""Which model a series is for."""

import fnmatch
from collections.abc import Sequence

from bedside.dicom_node.config import Route
from bedside.dicom_node.series import Series


def find_route(series: Series, routes: Sequence[Route]) -> Route | None:
    """Return the first route that fits a series, or None.

    Args:
        series: What its images say, and who sent it.
        routes: In their order.

    Example:
        >>> routes = [Route("acdc", modality="MR", description="*sax*"), Route("camus", "US")]
        >>> find_route(Series(modality="US"), routes).model
        'camus'
    """
    return next((route for route in routes if _fits(series, route)), None)


def _fits(series: Series, route: Route) -> bool:
    values = {
        "modality": series.modality,
        "body_part": series.body_part,
        "description": series.description,
        "station": series.station,
        "calling_ae": series.calling_ae,
        "called_ae": series.called_ae,
    }
    return all(
        not pattern or fnmatch.fnmatchcase(value.strip().lower(), pattern.strip().lower())
        for name, value in values.items()
        for pattern in (getattr(route, name),)
    )

"""A request that was answered, as logs, metrics and traces tell of it."""

from dataclasses import dataclass

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0)
"""Limits of the buckets in which durations of requests are counted."""


@dataclass(frozen=True)
class Answered:
    """A request that was answered.

    Attributes:
        method: GET, POST, ..., or WEBSOCKET; "-" for a word that is no method of HTTP.
        route: As it is declared, such as "/models/{name}"; "-" if there is none.
        status: Of HTTP; 0 for a WebSocket, or if the client left before there was an answer.
        seconds: From its head to its answer; of a WebSocket, to its end.
        model: Name of a model that is served; empty if none was asked for.
        client: Name of its key; empty without one.
    """

    method: str
    route: str
    status: int
    seconds: float
    model: str = ""
    client: str = ""

"""Runtimes that execute a graph, behind one protocol and one table."""

from bedside.runtime.session import Session, default_threads, open_session
from bedside.runtime.table import BACKENDS, Backend, installed_backends, open_graph

__all__ = [
    "BACKENDS",
    "Backend",
    "Session",
    "default_threads",
    "installed_backends",
    "open_graph",
    "open_session",
]

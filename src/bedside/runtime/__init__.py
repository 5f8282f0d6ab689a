"""Runtimes that execute a graph: one session contract, one table."""

from bedside.runtime.contract import Session
from bedside.runtime.session import default_threads, open_session
from bedside.runtime.table import BACKENDS, Backend, find_backend, installed_backends, open_graph

__all__ = [
    "BACKENDS",
    "Backend",
    "Session",
    "default_threads",
    "find_backend",
    "installed_backends",
    "open_graph",
    "open_session",
]

"""Scheduled jobs as documents: what is written about a job, where it is kept, and the DAG it becomes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: public name -> the room it lives in. A room is entered when its name is asked for: a DAG file needs one of them.
_ROOMS = {
    "JobDocument": "document",
    "InvalidDocument": "document",
    "JobStore": "store",
    "open_store": "store",
    "build_dags": "dags",
}
__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)

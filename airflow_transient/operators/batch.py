"""A queue of jobs from a DAG: send files to it, and borrow machines that work them off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_transient.operators.enqueue import EnqueueFilesOperator

if TYPE_CHECKING:
    from airflow_transient.operators.queue_workers import EcsQueueWorkersOperator, QueueWorkersOperator

__all__ = ["EcsQueueWorkersOperator", "EnqueueFilesOperator", "QueueWorkersOperator"]


def __getattr__(name: str) -> Any:
    """Only who borrows machines pays for importing what launches them: three times as much as all else here."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_transient.operators import queue_workers

    return getattr(queue_workers, name)

"""Where this Airflow hears of state changes: `[transient] events_queue` and the connection that reads it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_transient.core.reading import names
from airflow_transient.hooks.aws import DEFAULT_CONN_ID


@dataclass(frozen=True)
class Settings:
    """queues: names, URLs or ARNs; none: events are off."""

    queues: tuple[str, ...] = ()
    aws_conn_id: str = DEFAULT_CONN_ID


def settings() -> Settings:
    from airflow.sdk import conf

    queues = tuple(dict.fromkeys(names(conf.get("transient", "events_queue", fallback=""))))
    return Settings(queues, conf.get("transient", "events_conn_id", fallback="") or DEFAULT_CONN_ID)

"""What a launch has cost, if its prices are known: one look at AWS, a few seconds at most.

AWS tells what ran for about an hour after its end, and the look needs no more permission than the wait had.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow_transient.core.images.plan import is_image
from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.prices import cost, read_prices
from airflow_transient.core.rows import Row
from airflow_transient.core.sources import Place, Task
from airflow_transient.errors import SpecError
from airflow_transient.hooks.aws import TransientHook

if TYPE_CHECKING:
    from airflow_transient.core.sources import Look

log = logging.getLogger(__name__)

#: Seconds for all of it, and for one answer.
PATIENCE, ANSWER = 6.0, 3


def cost_in_words(launch: Launch, billed_seconds: int, connection: str | None) -> str | None:
    """
    None where `[transient] prices` says nothing of it, or AWS does not answer in time.

    :param billed_seconds: as the verdict says, of all members; 0: not known.
    """
    prices = _prices()
    if not prices or not launch.ids or any(map(is_image, launch.ids)):
        return None
    client = partial(
        TransientHook(connection, launch.region).client,
        connect_timeout=ANSWER,
        read_timeout=ANSWER,
        retries={"total_max_attempts": 1},
    )
    now = datetime.now(timezone.utc)
    look = _within(PATIENCE, partial(_look, client, launch, connection, now))
    if look is None or look.error:
        log.info("the report tells no cost: %s", look.error if look else "AWS did not answer in time")
        return None
    usd, note = _of_the_verdict(look, billed_seconds, prices) or _as_shown(launch, look, now, prices)
    return " ".join(filter(None, (f"{usd:.4f} USD" if usd is not None else "", f"({note})" if note else ""))) or None


def _of_the_verdict(look: Look, billed_seconds: int, prices: Mapping[str, float]) -> tuple[float, None] | None:
    """Where all are of one kind, the verdict's seconds count: it saw each of them end."""
    kinds = {resource.rates for resource in look.resources}
    if len(kinds) != 1 or not billed_seconds:
        return None
    ended = look.at
    usd = cost(kinds.pop(), ended - timedelta(seconds=billed_seconds), ended, prices)
    return None if usd is None else (usd, None)


def _as_shown(
    launch: Launch, look: Look, now: datetime, prices: Mapping[str, float]
) -> tuple[float | None, str | None]:
    nobody = Owner("", "", "", "")
    return Row(nobody, None, Task(nobody, None, launch), look.resources).cost_at(now, prices)


def _look(client: Callable[..., Any], launch: Launch, connection: str | None, now: datetime) -> Look:
    from airflow_transient.aws.listing import look_up

    cluster = launch.ecs.cluster if launch.ecs else None
    return look_up(client, Place(launch.made_of, launch.region, cluster, connection), launch.ids, now)


def _prices() -> dict[str, float]:
    from airflow.sdk import conf

    try:
        return read_prices(conf.get("transient", "prices", fallback=""))
    except SpecError as error:
        log.warning("%s", error)
        return {}


def _within(seconds: float, ask: Callable[[], Look]) -> Look | None:
    """In a thread of its own, which nobody waits for any longer: credentials may take their time, too."""
    told: list[Look] = []

    def look() -> None:
        try:
            told.append(ask())
        except Exception as error:  # a connection that is gone, say; the report does without
            log.info("no look at what it has cost: %s", type(error).__name__)

    thread = Thread(target=look, name="transient-report", daemon=True)
    thread.start()
    thread.join(seconds)
    return told[0] if told else None

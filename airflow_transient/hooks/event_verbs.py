"""`airflow transient events ...`: the verbs with an Airflow connection; what they did in words, and an exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_transient.core.event_rules import DEFAULT_QUEUE, Wanted, maker_statements, reader_statement
from airflow_transient.errors import SpecError, TransientError
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.hooks.events import settings

if TYPE_CHECKING:
    from airflow_transient.aws.events import Region


#: us-east-1, us-gov-west-1, cn-north-1: a wrong one is a host that nobody has, found out after a minute.
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")


@dataclass(frozen=True)
class Wish:
    """What the command line says. `deployment`: whose tasks; `regions`: none is the connection's own."""

    verb: str
    deployment: str | None
    regions: tuple[str, ...] = ()
    queue: str = DEFAULT_QUEUE
    aws_conn_id: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Answer:
    said: str
    data: dict[str, Any]
    code: int = 0


def act(wish: Wish) -> Answer:
    """It never raises what a person could mend: what was done in one region is told though the next refuses."""
    done: list[Region] = []
    try:
        _look_at_all(wish, done)
        said = "\n".join(TELLING[wish.verb](wish, done))
    except TransientError as error:
        lines = [*(line for region in done for line in _lines(region)), str(error)]
        return Answer("\n".join(lines), {**_data(done), "error": str(error)}, code=1)
    return Answer(said, _data(done), code=0 if all(region.complete for region in done) else 1)


def _look_at_all(wish: Wish, done: list[Region]) -> None:
    from airflow_transient.aws.events import Events

    if not wish.deployment:
        raise SpecError(
            "this Airflow has no deployment id yet, by which ECS's events are filtered: it is drawn at the first "
            "launch; or set [transient] deployment_id, or give --deployment"
        )
    for named in wish.regions:
        if not _REGION.fullmatch(named):
            raise SpecError(f"--region {named}: is that a region? Their names are like eu-west-1")
    wanted = Wanted(wish.deployment, wish.queue)
    client = TransientHook(wish.aws_conn_id or settings().aws_conn_id).client
    for region in wish.regions or (None,):
        events = Events(client, wanted, region)
        done.append(events.show() if wish.verb == "show" else getattr(events, wish.verb)(wish.dry_run))


# --- in words -------------------------------------------------------------------------------------------------------


def _after_setup(wish: Wish, done: Sequence[Region]) -> Iterator[str]:
    for region in done:
        yield from _lines(region)
    if not any(step.changed for region in done for step in region.steps):
        yield "a dry run: nothing was changed" if wish.dry_run else "nothing was changed"
    queues, wanted = ",".join(str(region.arn) for region in done), Wanted(str(wish.deployment), wish.queue)
    yield "\nFor the triggerers, and then restart them:"
    yield f"  [transient] events_queue = {queues}"
    yield f"  or in the environment: AIRFLOW__TRANSIENT__EVENTS_QUEUE={queues}"
    yield "\nTheir role, or the connection of [transient] events_conn_id, needs:"
    yield json.dumps([reader_statement(region.arn) for region in done], indent=1)
    yield "\nWho runs setup and teardown needs:"
    yield json.dumps([each for region in done for each in maker_statements(region.arn, wanted)], indent=1)


def _after_teardown(wish: Wish, done: Sequence[Region]) -> Iterator[str]:
    for region in done:
        yield from _lines(region)
    if not any(step.changed for region in done for step in region.steps):
        yield "a dry run: nothing was changed" if wish.dry_run else "nothing was changed"
    pointing = [queue for region in done for queue in settings().queues if _is_at(queue, region)]
    if pointing and not wish.dry_run:
        yield f"[transient] events_queue still names {', '.join(pointing)}: empty it"


def _after_show(wish: Wish, done: Sequence[Region]) -> Iterator[str]:
    for region in done:
        yield from _lines(region)
        waiting, in_flight = (*region.counters.values(), 0, 0)[:2]
        if region.counters:
            yield f"  {waiting} messages wait, {in_flight} are being read"
        read = any(_is_at(queue, region) for queue in settings().queues)
        yield "  [transient] events_queue names it here" if read else _unread(region)
    if not all(step.ours for region in done for step in region.steps):
        yield "incomplete, and `airflow transient events setup` touches only what is ours: give another --queue"
    elif not all(region.complete for region in done):
        yield "incomplete: `airflow transient events setup` makes and mends it"


def _unread(region: Region) -> str:
    named = ", ".join(settings().queues)
    return f"  [transient] events_queue {f'names {named}' if named else 'is empty'} here: set it to {region.arn}"


TELLING = {"setup": _after_setup, "teardown": _after_teardown, "show": _after_show}


def _lines(region: Region) -> Iterator[str]:
    yield region.name
    width = max(len(step.what) for step in region.steps)
    yield from (f"  {step.what:{width}}  {step.words}" for step in region.steps)


def _is_at(queue: str, region: Region) -> bool:
    """Whether these words can mean this region's queue."""
    from airflow_transient.aws.sqs import Address

    at, arn = Address.of(queue), region.arn
    return at.name == arn.queue and at.region in (None, arn.region) and at.account in (None, arn.account)


def _data(done: Sequence[Region]) -> dict[str, Any]:
    regions = [
        {
            "region": region.name,
            "queue": str(region.arn),
            "complete": region.complete,
            "steps": [asdict(step) for step in region.steps],
            **({"messages": region.counters} if region.counters else {}),
        }
        for region in done
    ]
    return {"regions": regions, "events_queue": list(settings().queues)}

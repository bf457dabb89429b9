"""EventBridge as moto has it: which rules want an event of the cloud's own, how it reaches them, what clients may not.

moto puts events to rules that are disabled, or that are only schedules, and lets everybody speak as AWS.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

from airflow_transient.localcloud.events import Event
from airflow_transient.localcloud.moto_reads import ACCOUNT
from airflow_transient.localcloud.moto_sqs import Seam

log = logging.getLogger(__name__)
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
NOT_YOURS = {"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "Not authorized for the source."}


def seams() -> Iterator[Seam]:
    from moto.events.models import Rule
    from moto.events.responses import EventsHandler
    from moto.events.utils import EventTemplateParser

    yield EventsHandler, "put_events", _refusing_aws(EventsHandler.put_events)
    yield Rule, "send_to_targets", _if_enabled(Rule.send_to_targets)
    template = EventTemplateParser.DEFAULT_EVENT_INPUT_TEMPLATE
    # moto: no account in what arrives.
    yield (
        EventTemplateParser,
        "DEFAULT_EVENT_INPUT_TEMPLATE",
        template.replace('"region":', '"account": "<account>", "region":'),
    )


def _refusing_aws(put: Callable[..., Any]) -> Callable[..., Any]:
    def put_events(response: Any) -> str:
        entries = response._get_param("Entries")
        refused = [str(entry.get("Source", "")).startswith("aws.") for entry in entries]
        if len(entries) > 10 or not any(refused):
            return str(put(response))
        theirs = [entry for entry, no in zip(entries, refused, strict=True) if not no]
        answers = iter(response.events_backend.put_events(theirs))
        said = [dict(NOT_YOURS) if no else next(answers) for no in refused]
        return json.dumps({"FailedEntryCount": sum("ErrorCode" in each for each in said), "Entries": said})

    return put_events


def _if_enabled(send: Callable[..., Any]) -> Callable[..., Any]:
    def send_to_targets(rule: Any, event: Any, *args: Any, **kwargs: Any) -> None:
        if rule.state != "DISABLED" and (rule.event_pattern.get_pattern() or not rule.scheduled_expression):
            send(rule, event, *args, **kwargs)

    return send_to_targets


# --- the cloud's own events ---------------------------------------------------------------------------------------


def wanted(event: Event) -> bool:
    return bool(_rules(event))


def deliver(event: Event) -> None:
    """To every target by itself: one that is gone takes nothing from the others."""
    for rule in _rules(event):
        for target in rule.targets:
            alone = copy(rule)
            alone.targets = [target]
            try:
                alone.send_to_targets(_message(event))
            except Exception as error:  # whatever moto's targets raise, an event is nobody's call
                log.warning("%s of %s did not reach %s: %s", event.detail_type, event.source, target.get("Arn"), error)


def _rules(event: Event) -> list[Any]:
    from moto.events.models import events_backends

    if event.region not in dict.keys(events_backends[ACCOUNT]):  # no rule was ever made there
        return []
    rules = list(events_backends[ACCOUNT][event.region].event_buses["default"].rules.values())
    message = _message(event)
    return [rule for rule in rules if rule.state != "DISABLED" and _fits(rule.event_pattern, message)]


def _fits(pattern: Any, message: dict[str, Any]) -> bool:
    return bool(pattern.get_pattern()) and bool(pattern.matches_event(message))


def _message(event: Event) -> dict[str, Any]:
    return {
        "version": "0",
        "id": event.id,
        "detail-type": event.detail_type,
        "source": event.source,
        "account": ACCOUNT,
        "time": event.time,
        "region": event.region,
        "resources": list(event.resources),
        "detail": json.loads(event.detail),
        "ingestion-time": event.time,
    }

"""Members that have ended, written so short that hundreds of them fit where Airflow keeps a launch's intent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_transient.core.fallback import Scope
from airflow_transient.core.verdict import FAILED_TOLD, Member, Outcome

#: What is kept of those that did not succeed, beyond the first ones that a verdict tells one by one.
_KEPT = ("id", "outcome", "exit_code", "billed_seconds")
#: What is kept of those that were replaced, beyond the first ones: how many there were of each.
_TALLIED = ("outcome", "missed", "capacity")


def shortened(members: Iterable[Member]) -> dict[str, Any]:
    """A success without a result is its id, three moments and the seconds billed; its evidence is not needed."""
    members = tuple(members)
    plain = [m for m in members if _is_plain(m)]
    rest = [{k: v for k, v in m.to_dict().items() if v is not None} for m in members if not _is_plain(m)]
    told, more = rest[:FAILED_TOLD], rest[FAILED_TOLD:]
    replaced = Counter(tuple(m.get(k) for k in _TALLIED) for m in more if "missed" in m)
    return {
        "succeeded": [[m.id, *map(_second, (m.launched, m.started, m.ended)), m.billed_seconds] for m in plain],
        "others": told + [{k: m[k] for k in _KEPT if k in m} for m in more if "missed" not in m],
        "replaced": [[count, *words] for words, count in replaced.items()],
    }


def lengthened(said: Mapping[str, Any] | None) -> tuple[Member, ...]:
    said = said or {}
    tallied = (m for count, *words in said.get("replaced", ()) for m in [_replaced(*words)] * count)
    return (*map(_success, said.get("succeeded", ())), *map(Member.from_dict, said.get("others", ())), *tallied)


def _replaced(outcome: str, missed: str, capacity: str | None) -> Member:
    return Member("", Outcome(outcome), "replaced by another", capacity=capacity, missed=Scope(missed))


def _is_plain(member: Member) -> bool:
    return member.outcome is Outcome.SUCCEEDED and member.result is None and not member.result_error


def _success(said: list[Any]) -> Member:
    launched, started, ended = map(_moment, said[1:4])
    return Member(
        said[0],
        Outcome.SUCCEEDED,
        exit_code=0,
        launched=launched,
        started=started,
        ended=ended,
        billed_seconds=said[4],
    )


def _second(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None


def _moment(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, timezone.utc)

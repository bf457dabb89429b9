"""What a person reads when it launches and when it ends."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_transient.core.judging import RULES
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import REPORTING, Verdict


def in_short(ids: Sequence[str]) -> str:
    """Five of them, and how many more."""
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def stopped_in_words(launch: Launch) -> str:
    """AWS's word for it."""
    return RULES[launch.kind].stopped


def launched_in_words(launch: Launch) -> str:
    deadline = f"{launch.deadline:%Y-%m-%d %H:%M:%S} UTC"
    if launch.kind in REPORTING:
        return f"launched {in_short(launch.ids)} in {_where(launch)}, deadline {deadline}{_report(launch)}"
    return f"launched {len(launch.ids)} in {_where(launch)}, deadline {deadline}: {in_short(launch.ids)}"


def _where(launch: Launch) -> str:
    cluster = f"cluster {launch.ecs.cluster}, " if launch.ecs else ""
    group = f"group {launch.group.name}, " if launch.group else ""
    return f"{cluster}{group}{launch.region} as {launch.token}"


def _report(launch: Launch) -> str:
    if launch.group and not launch.group.reports:
        return ", without receipts: the user data of the group's own template runs"
    return f", receipts under {launch.receipts}" if launch.receipts else ", receipts on the console only"


def ended_in_words(verdict: Verdict) -> str:
    said = verdict.to_dict()
    counts = ", ".join(f"{count} {outcome}" for outcome, count in said["counts"].items())
    many = f" ({counts})" if len(verdict.members) > 1 else ""
    return f"launch {verdict.token}: {verdict.outcome.value}{many}, {said['billed_seconds']:,} s billed"

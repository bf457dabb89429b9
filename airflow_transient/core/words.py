"""What a person reads while it waits, and when it launches or ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase, Sighting, Verdict


def launched_in_words(launch: Launch) -> str:
    ids = ", ".join(launch.ids[:5]) + (f" and {len(launch.ids) - 5} more" if len(launch.ids) > 5 else "")
    where = f", receipts under {launch.receipts}" if launch.receipts else ", receipts on the console only"
    return (
        f"launched {ids} in {launch.region} as {launch.token}, deadline {launch.deadline:%Y-%m-%d %H:%M:%S} UTC{where}"
    )


def wait_in_words(launch: Launch, sightings: Sequence[Sighting], now: datetime) -> str:
    """One line; the same line as long as nothing has changed, so that a log can leave repetitions out."""
    if len(sightings) == 1:
        return f"{sightings[0].member}: {_one_in_words(launch, sightings[0], now)}"
    told = Counter(_one_in_words(launch, s, now).split(" since ")[0] for s in sightings)
    return ", ".join(f"{count} {words}" for words, count in told.most_common())


def _one_in_words(launch: Launch, seen: Sighting, now: datetime) -> str:
    if seen.phase is Phase.UNKNOWN:
        return f"cannot be seen ({seen.note}); looking again"
    if seen.phase is Phase.ENDED:
        return f"{seen.state}" if seen.receipt else f"{seen.state}, waiting for its receipt"
    if now >= launch.deadline:
        return "past its deadline, being stopped"
    if seen.state in ("shutting-down", "stopping"):
        return "shutting down"
    if seen.boot_evidence:
        return f"stopping it: {seen.boot_evidence}"
    if seen.started and seen.started.started:
        return f"running since {seen.started.started:%H:%M:%S} UTC"
    if now > launch.boot_by:
        return "has not said that the job started (no way out of its subnet? a dead form?); waiting for the deadline"
    return "booting" if seen.phase is Phase.RUNNING else "waiting for EC2 to start it"


def ended_in_words(verdict: Verdict) -> str:
    seconds = verdict.to_dict()["billed_seconds"]
    return f"launch {verdict.token}: {verdict.outcome.value}, {seconds:,} s billed"

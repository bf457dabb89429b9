"""What Airflow's pages say of a job's DAG and of the service DAG. No value of an environment stands there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_transient.jobs.port import ONE_LINE

if TYPE_CHECKING:
    from airflow_transient.jobs.reading import Reading, Shard
    from airflow_transient.jobs.store import StoredJob

#: Of a document that is shown: what may hold a secret in plain text, or is too long to read here.
HIDDEN = ("environment", "command", "script")


def of_job(job: StoredJob, told: Mapping[str, Any]) -> str:
    """
    :param told: `JobDocument.to_dict()`.
    """
    when = f"`{told['schedule']}`" + (f" in {told['timezone']}" if told.get("timezone") else "")
    return "\n\n".join(
        (
            f"Scheduled job **{job.id}**, made on {job.created_at:%Y-%m-%d %H:%M} UTC. "
            f"It fires at {when} (second minute hour day_of_week week day month year; Monday is 0).",
            _indented(shown(told)),
            _how_to_change(job.id),
        )
    )


def of_unwritten(job_id: str, reason: str) -> str:
    """A document that cannot be read: the reason, where whoever wonders looks first."""
    return "\n\n".join(
        (
            f"The document of job **{job_id}** cannot be read, so the job does not fire, and a run of it fails:",
            _indented(reason),
            _how_to_change(job_id),
        )
    )


def _how_to_change(job_id: str) -> str:
    return (
        f"Change it on the page *Transient compute*, by `PUT /transient/jobs/{job_id}`, or with "
        f"`airflow transient jobs put FILE --id {job_id}`. Pausing this DAG suspends the job."
    )


def of_service(reading: Reading, shard: Shard, jobs: int, left_out: Mapping[str, str]) -> str:
    part = f", part {shard.number} of {shard.of}" if shard.of > 1 else ""
    reaps = "It ends, every ten minutes, what was launched and nobody waits for any more (docs/reaper.md)."
    said = [
        f"This file{part} makes the DAGs of {counted(jobs)}.",
        _where(reading),
        *(_indented(f"{job_id}: {why}") for job_id, why in left_out.items()),
        "" if shard.number else reaps,
        f"The line that makes them: `{ONE_LINE}`",
    ]
    return "\n\n".join(filter(None, said))


def counted(jobs: int) -> str:
    return "1 scheduled job" if jobs == 1 else f"{jobs} scheduled jobs"


def _where(reading: Reading) -> str:
    snapshot = reading.snapshot
    written = f", written on {snapshot.written_at:%Y-%m-%d %H:%M:%S} UTC" if snapshot.written_at else ""
    if reading.problem:
        return f"**The documents cannot be read, and this host has no copy of them:** {_plain(reading.problem)}"
    kept = f"Their documents are kept at `{reading.url}`: revision {snapshot.revision}{written}."
    if reading.seen:
        return (
            f"{kept} **They cannot be read there now. These are as they were on {reading.seen:%Y-%m-%d %H:%M} UTC**; "
            "the log of the DAG processor says why."
        )
    return kept


def shown(told: Mapping[str, Any]) -> str:
    """A document as JSON, without what it hides."""
    return json.dumps({name: _hidden(name, value) for name, value in told.items()}, indent=2, ensure_ascii=False)


def _hidden(name: str, value: Any) -> Any:
    if name == "overrides" and isinstance(value, list):
        return [{key: _hidden(key, one[key]) for key in one} if isinstance(one, Mapping) else "…" for one in value]
    if name not in HIDDEN:
        return value
    if isinstance(value, Mapping):
        return dict.fromkeys(map(str, value), "…")
    return f"… ({len(json.dumps(value))} characters)"


def _indented(text: str) -> str:
    """A block that nothing in it can end."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])


def _plain(text: str) -> str:
    return " ".join(text.split())

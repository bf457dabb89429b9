"""`airflow transient jobs ...`: the verbs of the service, with what they said as text and an exit code."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_transient.errors import SpecError, TransientError
from airflow_transient.jobs.airflow_db import AirflowDatabase
from airflow_transient.jobs.document import InvalidDocument
from airflow_transient.jobs.exports import read_document, read_export
from airflow_transient.jobs.importing import CREATED, REFUSED, REPLACED
from airflow_transient.jobs.masks import masked
from airflow_transient.jobs.refusals import NoSuchJob, SavedButNotTold
from airflow_transient.jobs.service import Imported, Jobs, Shown
from airflow_transient.jobs.store import open_store

if TYPE_CHECKING:
    import argparse

    from airflow_transient.jobs.store import StoredJob

#: So long a command waits for Airflow's DAG processor to know of what it has written.
PARSED_WITHIN = 10.0
NOT_PARSED = (
    "saved; Airflow's DAG processor has not seen it yet. Where none is running, it will once there is one: "
    "`airflow dag-processor`"
)
EVERY = sys.maxsize


@dataclass(frozen=True)
class Answer:
    """
    :param said: the answer in words.
    :param data: the same for -o json.
    :param beside: for standard error.
    :param wrote: Airflow has something new to parse.
    """

    said: str
    data: Any
    beside: tuple[str, ...] = ()
    code: int = 0
    wrote: bool = False


def act(args: argparse.Namespace) -> Answer:
    """What the command line says; it never raises what a person could mend."""
    airflow = AirflowDatabase()
    answer = _answer(airflow, args)
    if answer.wrote and not airflow.parsed(PARSED_WITHIN):
        return replace(answer, beside=(*answer.beside, NOT_PARSED))
    return answer


def _answer(airflow: AirflowDatabase, args: argparse.Namespace) -> Answer:
    try:
        draw = random.SystemRandom().randint
        jobs = Jobs(open_store(), airflow, lambda: datetime.now(timezone.utc), draw, masked)
        return VERBS[args.subcommand](jobs, args)
    except InvalidDocument as error:
        return _failed(*lines(error.messages), data={"messages": error.messages})
    except SavedButNotTold as error:
        return _failed(f"{error} ({error.__cause__})", data={"message": str(error)})
    except TransientError as error:
        return _failed(str(error), data={"message": str(error)})


def _failed(*words: str, data: Any) -> Answer:
    return Answer("", data, words, code=1)


def lines(messages: Any, field: str = "") -> Iterator[str]:
    """One for each fault: `trigger.queueName: Not a valid string.`"""
    if isinstance(messages, Mapping):
        for name, said in messages.items():
            yield from lines(said, ".".join(filter(None, (field, "" if name == "_schema" else str(name)))))
    elif isinstance(messages, list | tuple):
        for said in messages:
            yield from lines(said, field)
    else:
        yield f"{field}: {messages}" if field else str(messages)


def _list(jobs: Jobs, args: argparse.Namespace) -> Answer:
    page = jobs.list(args.skip, EVERY if args.count is None else args.count)
    documents = [_document(shown, args.plain) for shown in page.jobs]
    rows = [_row(document) for document in documents]
    head = ("id", "runs", "schedule", "suspended", "last run", "next run")
    return Answer(table(head, rows) if rows else "no jobs", {"jobs": documents, "total": page.total})


def _row(document: Mapping[str, Any]) -> tuple[str, ...]:
    if "error" in document:
        return (document["id"], "damaged", "; ".join(lines(document["error"])), "", "", "")
    zone = document.get("timezone", "UTC")
    return (
        document["id"],
        "ec2" if document.get("kind") == "ec2" else document.get("taskDefinition", document["id"]),
        document["schedule"] + ("" if zone == "UTC" else f" ({zone})"),
        "yes" if document.get("suspended") else "",
        document.get("lastRun", ""),
        document.get("estimatedNextRun", ""),
    )


def _get(jobs: Jobs, args: argparse.Namespace) -> Answer:
    shown = jobs.get(args.id)
    document = _document(shown, args.plain)
    said = json.dumps(document, indent=4, sort_keys=True)
    return Answer(said, document, (f"revision {shown.revision}",) if args.output == "table" else ())


def _put(jobs: Jobs, args: argparse.Namespace) -> Answer:
    document = read_document(args.file)
    id = args.id or document.get("id") or document.get("taskDefinition")
    if args.id and document.get("id", args.id) != args.id:
        raise SpecError(f"the document's id is {document['id']!r}, and --id says {args.id!r}: give one of them")
    job, done = _saved(jobs, id, document, args.if_revision)
    said = f"{job.id} {done}; revision {job.revision}"
    data = {"id": job.id, "outcome": done, "revision": job.revision}
    return Answer(said, data, job.document().warnings(), wrote=True)


def _saved(jobs: Jobs, id: Any, document: Mapping[str, Any], revision: int | None) -> tuple[StoredJob, str]:
    if isinstance(id, str):
        try:
            return jobs.change(id, document, revision), "changed"
        except NoSuchJob:
            if revision is not None:
                raise
        document = {**document, "id": id}
    return jobs.create(document), "created"


def _delete(jobs: Jobs, args: argparse.Namespace) -> Answer:
    jobs.get(args.id)
    if not args.yes and not _agreed(f"Delete {args.id} and end its runs? (y/n) "):
        return _failed("not deleted", data={"message": "not deleted"})
    deleted = jobs.delete(args.id, args.if_revision)
    said = f"{deleted.id} deleted" + (f"; {deleted.ended} live runs ended" if deleted.ended else "")
    return Answer(said, {"id": deleted.id, "ended": deleted.ended}, wrote=True)


def _agreed(question: str) -> bool:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _run(jobs: Jobs, args: argparse.Namespace) -> Answer:
    run_id = jobs.run(args.id)
    return Answer(run_id, {"id": args.id, "runId": run_id})


def _import(jobs: Jobs, args: argparse.Namespace) -> Answer:
    export = read_export(args.file)
    ways = {"replace": args.replace, "all_or_nothing": args.all_or_nothing, "dry_run": args.dry_run}
    try:
        answers = jobs.import_documents(export.documents, **ways)
        untold: tuple[str, ...] = ()
    except SavedButNotTold as error:
        answers, untold = error.imported, (f"{error} ({error.__cause__})",)
    said = table(("id", "", ""), [(_named(answer), answer.outcome, _why(answer)) for answer in answers])
    warned = tuple(f"{answer.id}: {words}" for answer in answers for words in answer.warnings)
    bad = bool(untold) or any(answer.outcome == REFUSED for answer in answers)
    wrote = any(answer.outcome in (CREATED, REPLACED) for answer in answers) and not args.dry_run
    said = f"{said}\n{_totals(answers, args.dry_run)}"
    return Answer(said, [_told(answer) for answer in answers], (*export.notes, *warned, *untold), int(bad), wrote)


def _told(answer: Imported) -> dict[str, Any]:
    said = {"id": answer.id, "outcome": answer.outcome, "messages": answer.messages}
    return {name: value for name, value in said.items() if name != "messages" or value}


def _named(answer: Imported) -> str:
    return answer.id or "(without an id)"


def _why(answer: Imported) -> str:
    return "; ".join(lines(answer.messages)) if answer.messages else ""


def _totals(answers: Sequence[Imported], dry_run: bool) -> str:
    outcomes = [answer.outcome for answer in answers]
    counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
    return f"{counted or 'no documents'}{'; a dry run: nothing was written' if dry_run else ''}"


def _next(jobs: Jobs, args: argparse.Namespace) -> Answer:
    if bool(args.id) == bool(args.schedule):
        raise SpecError("give the id of a job, or --schedule: one of them")
    draft = {"schedule": args.schedule, **({"timezone": args.timezone} if args.timezone else {})}
    preview = jobs.next_fires(args.id or draft, args.count)
    moments = [fire.isoformat() for fire in preview.fires]
    note = (f"with 0 in place of each ?: {preview.schedule}",) if preview.drawn else ()
    data = {"schedule": preview.schedule, "fires": moments}
    return Answer("\n".join(moments) or str(preview.words), data, note)


VERBS: dict[str, Callable[[Jobs, Any], Answer]] = {
    "list": _list,
    "get": _get,
    "put": _put,
    "delete": _delete,
    "run": _run,
    "import": _import,
    "next": _next,
}


def _document(shown: Shown, plain: bool) -> dict[str, Any]:
    return dict(shown.document) if plain else masked(shown.document)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    every = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in every if any(row))

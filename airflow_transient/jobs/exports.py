"""Documents out of the files in which people have them: exports of the ECS Scheduler, or of a store of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from airflow_transient.errors import SpecError

#: A thousand of the largest documents.
MAX_BYTES = 64 * 1024 * 1024
STDIN = "-"


@dataclass(frozen=True)
class Export:
    """
    :param notes: what whoever imports them should know.
    """

    documents: tuple[Any, ...]
    notes: tuple[str, ...] = ()


def read_export(name: str) -> Export:
    """
    The documents of a file, of a folder of `<id>.json`, or of standard input. Raises SpecError with a sentence.

    What is in them is not looked at, with one exception: a file of a folder may leave out the id that is its name.
    """
    folder = Path(name)
    if name == STDIN or not folder.is_dir():
        return _export(name, read_text(name))
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SpecError(f"{name} holds no .json file: give the folder that holds the jobs' own")
    return Export(tuple(_named(path.stem, loads(read_text(str(path)), str(path))) for path in files))


def read_document(name: str) -> Mapping[str, Any]:
    """One JSON object. Raises SpecError."""
    said = loads(read_text(name), name)
    if not isinstance(said, Mapping):
        raise SpecError(f"{_called(name)} holds no JSON object: a job's document is one")
    return said


def read_text(name: str) -> str:
    try:
        with sys.stdin.buffer if name == STDIN else open(name, "rb") as file:
            held = file.read(MAX_BYTES + 1)
        if len(held) > MAX_BYTES:
            raise SpecError(f"{_called(name)} is larger than {MAX_BYTES // 2**20} MiB: give it in parts")
        return held.decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{_called(name)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{_called(name)} is no UTF-8 text") from None


def loads(text: str, name: str, line: int | None = None) -> Any:
    """JSON without the numbers that are none. Raises SpecError."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        place = f", line {line or error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise SpecError(f"{_called(name)}{place} is no JSON: {why}") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _export(name: str, text: str) -> Export:
    try:
        said = loads(text, name)
    except SpecError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].strip().endswith("}"):
            raise
        return Export(tuple(loads(line, name, number) for number, line in lines))
    if isinstance(said, list):
        return Export(tuple(said))
    if not isinstance(said, Mapping):
        raise SpecError(f'{_called(name)} holds no jobs: give a list of documents, or {{"jobs": [...]}}')
    return _of_object(name, said)


def _of_object(name: str, said: Mapping[str, Any]) -> Export:
    jobs = said.get("jobs", [said])
    if isinstance(jobs, Mapping):
        return Export(tuple(_stored(id, job) for id, job in jobs.items()))
    if not isinstance(jobs, list):
        raise SpecError(f'{_called(name)} has no list of documents under "jobs"')
    partly = "jobs" in said and ("next" in said or "prev" in said)
    note = f"{_called(name)} is one page of a list: ask for all of it with ?count=100000"
    return Export(tuple(jobs), (note,) * partly)


def _stored(id: str, job: Any) -> Any:
    """Of a snapshot of our own store."""
    return _named(id, job.get("document")) if isinstance(job, Mapping) else job


def _named(id: str, document: Any) -> Any:
    return {"id": id, **document} if isinstance(document, Mapping) else document


def _called(name: str) -> str:
    return "standard input" if name == STDIN else name

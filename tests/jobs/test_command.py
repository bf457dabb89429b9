"""What `airflow transient jobs` says: its words, its JSON, its exit codes; and the files that it reads."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.errors import SpecError
from airflow_transient.jobs import command
from airflow_transient.jobs.command import Answer, lines
from airflow_transient.jobs.exports import MAX_BYTES, read_export
from airflow_transient.jobs.options import VERBS
from tests.jobs.fakes import FakeAirflow, World

SLEEPER = {"taskDefinition": "sleeper", "schedule": "0 */5"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The store and the Airflow of every command, instead of this machine's."""
    world = World()
    monkeypatch.setattr(command, "open_store", lambda: world.store)
    monkeypatch.setattr(command, "AirflowDatabase", lambda: world.airflow)
    monkeypatch.setattr(FakeAirflow, "parsed", lambda self, within: self.has_file, raising=False)
    return world


@pytest.fixture
def jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """The words as they are typed; `said`: what comes on standard input."""

    def act(*words: str, said: str = "") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        return command.act(parser().parse_args(words))

    return act


def parser() -> argparse.ArgumentParser:
    """As Airflow makes it of the same table."""
    made = argparse.ArgumentParser()
    verbs = made.add_subparsers(dest="subcommand", required=True)
    for name, verb in VERBS.items():
        one = verbs.add_parser(name, help=verb.help)
        for flags, told in verb.arguments.items():
            one.add_argument(*flags, **told)
    return made


def test_every_verb_has_its_arguments_and_its_doing() -> None:
    assert set(VERBS) == set(command.VERBS)


def test_put_creates_and_then_changes(world: World, jobs: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(SLEEPER))
    assert jobs("put", str(file)).said == "sleeper created; revision 1"
    assert jobs("put", str(file)).said == "sleeper changed; revision 1"
    assert jobs("put", "-", "--id", "sleeper", said='{"taskCount": 3}').data == {
        "id": "sleeper",
        "outcome": "changed",
        "revision": 2,
    }
    assert world.stored().raw["taskCount"] == 3
    assert jobs("put", "-", "--id", "other", said=json.dumps(SLEEPER)).said == "other created; revision 3"
    assert world.stored("other").raw["taskDefinition"] == "sleeper"


def test_what_is_accepted_and_perhaps_not_meant_is_said(jobs: Callable[..., Answer]) -> None:
    every_second = json.dumps({**SLEEPER, "schedule": "* */5"})
    put = jobs("put", "-", said=every_second)
    assert (put.code, len(put.beside)) == (0, 1)
    assert put.beside[0].startswith("the first field is the second")
    imported = jobs("import", "-", "--replace", "--dry-run", said=every_second)
    assert imported.beside == (f"sleeper: {put.beside[0]}",)


#: case -> words, standard input, what is said of it.
FAULTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "a field": (("put", "-"), json.dumps({**SLEEPER, "taskCount": "x"}), "taskCount: Not a valid integer."),
    "a field of a field": (
        ("put", "-"),
        json.dumps({**SLEEPER, "trigger": {"type": "sqs"}}),
        "trigger: sqs trigger type requires queueName field",
    ),
    "no field at all": (("put", "-"), "{}", "schedule: Missing data for required field."),
    "no JSON": (("put", "-"), "{", "standard input, line 1 is no JSON: "),
    "no number": (("put", "-"), '{"taskCount": NaN}', "standard input is no JSON: NaN is no number"),
    "no object": (("put", "-"), "[]", "standard input holds no JSON object: a job's document is one"),
    "no file": (("put", "/nowhere/job.json"), "", "/nowhere/job.json cannot be read: No such file or directory"),
    "two ids": (("put", "-", "--id", "a"), '{"id": "b"}', "the document's id is 'b', and --id says 'a'"),
    "no such job": (("get", "sleeper"), "", "Job sleeper does not exist."),
    "no such job to delete": (("delete", "sleeper"), "", "Job sleeper does not exist."),
    "no such job to change": (
        ("put", "-", "--if-revision", "1"),
        json.dumps(SLEEPER),
        "Job sleeper does not exist.",
    ),
    "neither a job nor a schedule": (("next",), "", "give the id of a job, or --schedule: one of them"),
    "too many fires": (("next", "--schedule", "0", "--count", "101"), "", "count: Must be between 1 and 100."),
    "a schedule": (("next", "--schedule", "61"), "", "parsedSchedule: Invalid schedule syntax: "),
}


@pytest.mark.parametrize(("words", "said", "told"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_in_a_sentence(
    jobs: Callable[..., Answer], words: tuple[str, ...], said: str, told: str
) -> None:
    answer = jobs(*words, said=said)
    assert (answer.code, answer.said) == (1, "")
    assert any(line.startswith(told) for line in answer.beside), answer.beside


def test_faults_are_told_one_by_one() -> None:
    messages = {"taskCount": ["a", "b"], "overrides": {"0": {"environment": ["c"]}}, "_schema": ["d"]}
    assert list(lines(messages)) == ["taskCount: a", "taskCount: b", "overrides.0.environment: c", "d"]


def test_what_airflow_was_not_told_is_said(world: World, jobs: Callable[..., Answer]) -> None:
    world.airflow.fails_at = "reparse"
    answer = jobs("put", "-", said=json.dumps(SLEEPER))
    assert answer.code == 1
    assert answer.beside[0].startswith("Job update was saved correctly but failed to post")


def test_what_airflow_has_not_parsed_is_said(
    world: World, jobs: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeAirflow, "parsed", lambda self, within: False)
    answer = jobs("put", "-", said=json.dumps(SLEEPER))
    assert (answer.code, answer.said) == (0, "sleeper created; revision 1")
    assert answer.beside == (command.NOT_PARSED,)


def test_a_list_is_a_table(world: World, jobs: Callable[..., Answer]) -> None:
    assert jobs("list").said == "no jobs"
    world.has("a-long-name", timezone="Europe/Paris", suspended=True)
    world.has()
    world.has("spoiled")
    world.damage("spoiled", schedule=5)
    head, first, second, third = jobs("list").said.splitlines()
    assert head.split() == ["id", "runs", "schedule", "suspended", "last", "run", "next", "run"]
    assert first.split()[:6] == ["a-long-name", "sleeper", "0", "*/5", "(Europe/Paris)", "yes"]
    assert second.split()[:2] == ["sleeper", "sleeper"]
    assert third.split()[:2] == ["spoiled", "damaged"]
    assert jobs("list", "--skip", "1", "--count", "1").data["jobs"][0]["id"] == "sleeper"


def test_values_that_airflow_masks_are_masked(world: World, jobs: Callable[..., Answer]) -> None:
    world.has(overrides=[{"containerName": "c", "environment": {"DB_PASSWORD": "hunter22", "SECONDS": "10"}}])
    for verb in (("get", "sleeper"), ("list",)):
        assert "hunter22" not in json.dumps(jobs(*verb).data)
        assert "hunter22" in json.dumps(jobs(*verb, "--plain").data)
    shown = json.dumps(jobs("get", "sleeper").data)
    assert jobs("put", "-", said=shown).said == "sleeper changed; revision 1"
    assert world.stored().raw["overrides"][0]["environment"]["DB_PASSWORD"] == "hunter22"


def test_a_deletion_is_asked_for(world: World, jobs: Callable[..., Answer]) -> None:
    world.has()
    world.airflow.runs["job.sleeper"] = 1
    assert jobs("delete", "sleeper", said="n\n").beside == ("not deleted",)
    assert jobs("delete", "sleeper", said="").code == 1
    assert "sleeper" in world.store.snapshot.jobs
    assert jobs("delete", "sleeper", said="y\n").said == "sleeper deleted; 1 live runs ended"
    world.has()
    assert jobs("delete", "sleeper", "--yes").said == "sleeper deleted"


def test_a_run_prints_its_id(world: World, jobs: Callable[..., Answer]) -> None:
    world.has()
    assert jobs("run", "sleeper").said == "manual__1"


def test_the_next_fires_are_lines(world: World, jobs: Callable[..., Answer]) -> None:
    world.has(scheduleStart="2027-01-01T00:00:00Z")
    assert jobs("next", "sleeper", "--count", "2").said.splitlines() == [
        "2027-01-01T00:00:00+00:00",
        "2027-01-01T00:05:00+00:00",
    ]
    draft = jobs("next", "--schedule", "? ? 4", "--timezone", "europe/paris", "--count", "1")
    assert draft.said.endswith(("T04:00:00+01:00", "T04:00:00+02:00"))
    assert draft.beside == ("with 0 in place of each ?: 0 0 4",)
    assert jobs("next", "--schedule", "0 0 0 * * 31 2").said == "This schedule never fires again."


# --- import


def test_an_import_is_a_table_with_a_total(world: World, jobs: Callable[..., Answer]) -> None:
    world.has()
    documents = [{"taskDefinition": "new", "schedule": "0"}, SLEEPER, {"taskDefinition": "a/b", "schedule": "0"}, 5]
    answer = jobs("import", "-", said=json.dumps(documents))
    assert answer.said.splitlines() == [
        "id",
        "new              created",
        "sleeper          refused  id: Job sleeper already exists.",
        "a/b              refused  taskDefinition: task definition names must contain only alphanumeric, underscore, "
        "and hyphen",
        "(without an id)  refused  Invalid input type.",
        "1 created, 3 refused",
    ]
    assert answer.code == 1
    assert answer.data[0] == {"id": "new", "outcome": "created"}
    assert answer.data[1]["messages"] == {"id": ["Job sleeper already exists."]}


def test_an_import_that_went_well(world: World, jobs: Callable[..., Answer]) -> None:
    said = json.dumps({"jobs": [SLEEPER]})
    dry = jobs("import", "-", "--dry-run", said=said)
    assert (dry.code, dry.said.splitlines()[-1]) == (0, "1 created; a dry run: nothing was written")
    assert world.store.writes == 0
    assert jobs("import", "-", said=said).code == 0
    assert jobs("import", "-", "--replace", said=said).said.splitlines()[-1] == "1 unchanged"
    left = jobs("import", "-", "--all-or-nothing", said=json.dumps([{**SLEEPER, "id": "b"}, {}]))
    assert left.said.splitlines()[-1] == "1 left, 1 refused"


def test_an_import_of_nothing(world: World, jobs: Callable[..., Answer]) -> None:
    answer = jobs("import", "-", said="[]")
    assert (answer.code, answer.said.splitlines()[-1]) == (0, "no documents")


A, B = {"id": "a", "schedule": "0"}, {"id": "b", "schedule": "0"}
STORED = {
    "format": 1,
    "revision": 3,
    "jobs": {"a": {"revision": 1, "document": {"schedule": "0"}}, "b": {"document": B}},
}
#: case -> a file's text, the documents in it.
EXPORTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "a list": (json.dumps([A, B]), (A, B)),
    "the answer of GET /jobs": (json.dumps({"jobs": [A, B]}, indent=4), (A, B)),
    "a document per line": (f"{json.dumps(A)}\n\n{json.dumps(B)}\r\n", (A, B)),
    "one document": (json.dumps(A, indent=4), (A,)),
    "a snapshot of our own": (json.dumps(STORED), (A, B)),
    "with a byte order mark": ("\ufeff" + json.dumps([A]), (A,)),
    "what is no document": (json.dumps([A, 5, None]), (A, 5, None)),
    "nothing": ("[]", ()),
}


@pytest.mark.parametrize(("text", "documents"), EXPORTS.values(), ids=EXPORTS)
def test_an_export_is_read(tmp_path: Path, text: str, documents: tuple[Any, ...]) -> None:
    file = tmp_path / "export"
    file.write_text(text, encoding="utf-8")
    assert read_export(str(file)).documents == documents


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps({**B, "id": "named otherwise"}))
    (tmp_path / "a.json").write_text('{"schedule": "0"}')
    (tmp_path / "README").write_text("not a job")
    assert read_export(str(tmp_path)).documents == (A, {**B, "id": "named otherwise"})


def test_a_page_of_a_list_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "page.json"
    file.write_text(json.dumps({"jobs": [A], "next": {"href": "/jobs?skip=10"}}))
    (note,) = read_export(str(file)).notes
    assert note == f"{file} is one page of a list: ask for all of it with ?count=100000"


#: case -> what is there, the sentence.
UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "cannot be read: No such file or directory"),
    "an empty folder": (Path.mkdir, "holds no .json file: give the folder that holds the jobs' own"),
    "an empty file": (lambda path: path.touch(), "line 1 is no JSON: "),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is no UTF-8 text"),
    "a table": (lambda path: path.write_text("id,schedule\na,0\n"), "line 1 is no JSON: "),
    "a broken line": (lambda path: path.write_text('{"id": "a"}\n{"id": \n'), "line 2 is no JSON: "),
    "a number": (lambda path: path.write_text("5"), 'holds no jobs: give a list of documents, or {"jobs": [...]}'),
    "jobs that are none": (lambda path: path.write_text('{"jobs": 5}'), 'has no list of documents under "jobs"'),
    "too deep": (lambda path: path.write_text("[" * 100_000), "is no JSON: "),
    "too large": (lambda path: path.write_bytes(b" " * (MAX_BYTES + 1)), "is larger than 64 MiB: give it in parts"),
}


@pytest.mark.parametrize(("make", "sentence"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path: Path, make: Callable[[Path], Any], sentence: str) -> None:
    path = tmp_path / "export"
    make(path)
    with pytest.raises(SpecError) as told:
        read_export(str(path))
    assert str(told.value).startswith(str(path))
    assert sentence in str(told.value)

"""A message's body and the job it asks for, both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airflow_transient.worker import (
    LONGEST_MESSAGE,
    BadMessage,
    Job,
    file_name,
    read_message,
    split_url,
    write_message,
    write_seed_message,
)

JOB = Job("a-1", "s3://bucket/in/a.txt", "s3://bucket/out/a.txt")
KEY_1024 = "é" * 511 + ".x"


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(JOB, id="plain"),
        pytest.param(Job("a", JOB.input, JOB.output, ("--fast", "")), id="parameters, an empty one too"),
        pytest.param(Job("a", "s3://bucket/in/two words.txt", JOB.output), id="a space"),
        pytest.param(Job("a", "s3://bucket/in/100%25 + ?#&=.txt", JOB.output), id="what URLs would mean otherwise"),
        pytest.param(Job("a", "s3://bucket//", JOB.output), id="a key of one slash"),
        pytest.param(Job("a", "s3://bucket/in/línea\nzwei 🦆", JOB.output), id="unicode and a line's end"),
        pytest.param(Job("a", "s3://bucket/\x01\uffff", JOB.output), id="characters that SQS refuses"),
        pytest.param(Job("a", f"s3://bucket/{KEY_1024}", JOB.output), id="a key of 1,024 bytes"),
        pytest.param(Job("!" * 128, JOB.input, JOB.output), id="an id of 128 characters"),
    ],
)
def test_what_is_written_is_read_back_as_it_was(job: Job) -> None:
    body = write_message(job)
    assert body.isascii()
    assert read_message(body) == job


def test_the_document_is_what_producers_in_other_languages_write() -> None:
    body = json.dumps({"version": 1, "id": "a-1", "input": JOB.input, "output": JOB.output, "parameters": ["-v"]})
    assert read_message(body) == Job("a-1", JOB.input, JOB.output, ("-v",))


def test_the_keys_are_verbatim() -> None:
    assert split_url("s3://bucket/a%20b/c d") == ("bucket", "a%20b/c d")


SEED = "WyJwcm9jZXNzIiwgImJrdCIsICJpbnB1dC8iLCAib3V0cHV0LyIsICJhLnR4dCJd"  # what boto 2's SendJobs.py put on the wire


@pytest.mark.parametrize("body", [SEED, base64.b64decode(SEED).decode()], ids=["base64", "plain"])
def test_the_message_of_old_producers_is_read(body: str) -> None:
    job = read_message(body, ".out")
    assert (job.input, job.output) == ("s3://bkt/input/a.txt", "s3://bkt/output/a.txt.out")
    assert job.id == read_message(body).id


def test_the_message_of_old_producers_is_written() -> None:
    assert write_seed_message("bkt", "input/", "output/", "a.txt") == SEED
    assert write_seed_message("bkt", "input/", "output/", "a.txt", encode=False) == base64.b64decode(SEED).decode()


def document(**changes: Any) -> str:
    words = {"version": 1, "id": "a", "input": JOB.input, "output": JOB.output, **changes}
    return json.dumps({name: value for name, value in words.items() if value is not ...})


BAD = {
    "no JSON": ("job a.txt please", "no JSON"),
    "empty": ("", "no JSON"),
    "base64 of no JSON": (base64.b64encode(b"job a.txt").decode(), "no JSON"),
    "deeper than Python reads": ("[" * 100_000, "no JSON"),
    "a number": ("17", "neither"),
    "a string": ('"process"', "neither"),
    "null": ("null", "neither"),
    "no version": (document(version=...), "version None"),
    "a later version": (document(version=2), "version 2"),
    "true is no 1": (document(version=True), "version True"),
    "1.0 is no 1": (document(version=1.0), "version 1.0"),
    "an unknown key": (document(priority=3), "unknown: 'priority'"),
    "no input": (document(input=...), "input is missing"),
    "an input that is none": (document(input=None), "input is not a string"),
    "no output": (document(output=...), "output is missing"),
    "no id": (document(id=...), "id is missing"),
    "an empty id": (document(id=""), "id must be"),
    "an id with a space": (document(id="a b"), "id must be"),
    "an id of 129 characters": (document(id="a" * 129), "id must be"),
    "parameters in one string": (document(parameters="-v"), "list of strings"),
    "a parameter that is a number": (document(parameters=[1]), "list of strings"),
    "a parameter with NUL": (document(parameters=["a\0b"]), "NUL"),
    "http": (document(input="https://bucket/a"), "s3://bucket/key"),
    "no key": (document(input="s3://bucket/"), "s3://bucket/key"),
    "no bucket": (document(input="s3:///a"), "s3://bucket/key"),
    "a key of 1,025 bytes": (document(input="s3://bucket/" + "é" * 512 + "x"), "1,024 bytes"),
    "a key with NUL": (document(output="s3://bucket/a\0b"), "NUL"),
    "half a character": (document(input="s3://bucket/\ud83e"), "UTF-16"),
    "an empty list": ("[]", "action None"),
    "an unknown action": (json.dumps(["delete", "b", "i/", "o/", "f"]), "action 'delete'"),
    "a list that is too short": (json.dumps(["process", "bkt", "i/", "o/"]), "not of the form"),
    "a list with a number": (json.dumps(["process", "bkt", "i/", "o/", 5]), "not of the form"),
}


@pytest.mark.parametrize(("body", "why"), BAD.values(), ids=BAD.keys())
def test_a_bad_message_says_what_is_wrong_with_it(body: str, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        read_message(body)


def test_a_bad_message_s_sentence_is_short_whatever_it_holds() -> None:
    with pytest.raises(BadMessage) as bad:
        read_message(document(input="x" * 1_000_000))
    assert len(str(bad.value)) < 200


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(BadMessage, match="id must be"):
        write_message(Job("a b", JOB.input, JOB.output))


def test_a_message_may_have_1_mib_and_not_a_byte_more() -> None:
    room = LONGEST_MESSAGE - len(write_message(Job("a", JOB.input, JOB.output, ("x",))))
    longest = Job("a", JOB.input, JOB.output, ("x" * (room + 1),))
    assert len(write_message(longest)) == LONGEST_MESSAGE
    with pytest.raises(BadMessage, match="1,048,577 bytes"):
        write_message(Job("a", JOB.input, JOB.output, ("x" * (room + 2),)))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a.txt", "a.txt"),
        ("in/deep/two words.txt", "two words.txt"),
        ("in/", "file"),
        ("in/..", "file"),
        ("../../etc/.", "file"),
        ("../../etc/passwd", "passwd"),
        ("-rf", "-rf"),
    ],
)
def test_a_file_keeps_its_name_and_leads_nowhere_else(key: str, name: str) -> None:
    assert file_name(key) == name


def test_a_name_too_long_for_a_disk_keeps_its_end_and_stays_itself() -> None:
    names = [file_name("é" * 500 + each + ".tar.gz") for each in "ab"]
    assert names[0] != names[1]
    assert all(len(name.encode()) <= 255 and name.endswith(".tar.gz") for name in names)

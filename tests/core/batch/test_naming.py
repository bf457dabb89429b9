"""Ids, outputs, and the files that cannot go."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_transient.core.batch.naming import Found, Namer, Problem, Wish, job_id
from airflow_transient.core.batch.spec import LONGEST_KEY, EnqueueSpec
from airflow_transient.worker import Job, read_message, write_message


def namer(**words: Any) -> Namer:
    usual = {
        "source": "/in",
        "sqs_queue": "jobs",
        "input_prefix": "s3://bucket/in",
        "outputs": "s3://bucket/out/{name}",
    }
    return Namer(EnqueueSpec.of(**{**usual, **words}))


def found(name: str, version: str = "1") -> Found:
    return Found(name, f"/in/{name}", 5, version)


def wish(name: str, **words: Any) -> Wish | Problem:
    return namer(**words).wish(found(name))


def test_the_same_content_in_the_same_place_has_the_same_id() -> None:
    assert job_id("s3://b/a", "5-1") == job_id("s3://b/a", "5-1")
    assert len({job_id("s3://b/a", "5-1"), job_id("s3://b/a", "5-2"), job_id("s3://b/b", "5-1")}) == 3


@pytest.mark.parametrize(
    "name", ["a.txt", "a b.txt", "ünïcødé 文.txt", "deep/er/a", "a\nb", "100%41+&?#.txt", "…" * 340]
)
def test_a_wish_is_one_that_workers_can_read(name: str) -> None:
    made = wish(name)
    assert isinstance(made, Wish)
    job = read_message(write_message(Job(made.id, made.input, made.output)))
    assert (job.input, job.output) == (f"s3://bucket/in/{name}", f"s3://bucket/out/{name}")


@pytest.mark.parametrize(("length", "fits"), [(LONGEST_KEY - 4, True), (LONGEST_KEY - 3, False)])
def test_a_key_has_1024_bytes_at_most(length: int, fits: bool) -> None:
    assert isinstance(wish("a" * length), Wish) is fits


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        pytest.param("a" * 1021, {}, "its output would have a key of 1,025 bytes", id="a long output"),
        pytest.param("ü" * 511, {"input_prefix": "s3://bucket/inn"}, "its input .* 1,026", id="bytes, not letters"),
        pytest.param("a\udcff", {}, "not UTF-8", id="a name of other bytes"),
        pytest.param("a\0b", {}, "NUL", id="a NUL"),
        pytest.param("a", {"outputs": "s3://bucket/in/{name}"}, "one of the inputs", id="over itself"),
        pytest.param("a", {"outputs": "s3://bucket/in/{name}.out"}, "one of the inputs", id="an input of the next run"),
    ],
)
def test_a_file_that_cannot_go_says_why(name: str, words: dict[str, str], said: str) -> None:
    import re

    problem = wish(name, **words)
    assert isinstance(problem, Problem)
    assert re.search(said, problem.words)
    assert not problem.passing
    assert str(problem).isascii() or name.isascii()


SOURCE = {"source": "s3://bucket/raw", "input_prefix": "s3://bucket/in", "pattern": "**"}


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        pytest.param("a", {"outputs": "s3://bucket/raw/{name}"}, "one of the files of source", id="over its source"),
        pytest.param("a", {"outputs": "s3://bucket/raw/b/{name}"}, "one of the files of source", id="beside it"),
        pytest.param("a", {"source": "s3://bucket/in/new"}, None, id="from a folder of the inputs"),
        pytest.param("new/a", {"source": "s3://bucket/in/new"}, "its copy .* files of source", id="over another file"),
        pytest.param("a", {"input_prefix": "s3://bucket/raw/in"}, None, id="to a folder of the source"),
        pytest.param("a.wav", {"outputs": "s3://bucket/raw/{stem}.mp3", "pattern": "*.wav"}, None, id="by pattern"),
        pytest.param("a", {"outputs": "s3://another/raw/{name}"}, None, id="another bucket"),
    ],
)
def test_nothing_is_written_over_a_source_in_s3(name: str, words: dict[str, str], said: str | None) -> None:
    import re

    made = wish(name, **{**SOURCE, **words})
    assert isinstance(made, Problem if said else Wish)
    assert not isinstance(made, Problem) or re.search(said or "", made.words)


def test_outputs_beside_inputs_may_differ_by_pattern() -> None:
    assert isinstance(wish("a.txt", outputs="s3://bucket/in/{stem}.out", pattern="*.txt"), Wish)


def test_two_files_with_one_output_are_said() -> None:
    names = namer(outputs="s3://bucket/out/{stem}.mp3")
    assert isinstance(names.wish(found("a.wav")), Wish)
    second = names.wish(found("a.flac"))
    assert isinstance(second, Problem)
    assert "another file has the same output" in second.words

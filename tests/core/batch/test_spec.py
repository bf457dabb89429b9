"""What may be asked for, and in what words it is refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.core.batch.spec import EnqueueSpec
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import SpecError

GOOD: dict[str, Any] = {
    "source": "/data/in",
    "sqs_queue": "jobs",
    "outputs": "s3://bucket/out/{name}",
    "input_prefix": "s3://bucket/in",
}


def spec(**words: Any) -> EnqueueSpec:
    return EnqueueSpec.of(**{**GOOD, **words})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param({"source": ""}, "source is missing", id="no source"),
        pytest.param({"source": "data/in"}, "full path", id="a relative source"),
        pytest.param({"source": "s3://B/x"}, "source is an address", id="no bucket's name"),
        pytest.param({"input_prefix": None}, "input_prefix is missing", id="a directory goes somewhere"),
        pytest.param({"input_prefix": "bucket/in"}, "input_prefix is an address", id="no address"),
        pytest.param({"sqs_queue": " "}, "sqs_queue is missing", id="no queue"),
        pytest.param({"outputs": None}, "outputs is missing", id="no outputs"),
        pytest.param({"outputs": "s3://bucket/out"}, "same for all files", id="one output for all"),
        pytest.param({"outputs": "out/{name}"}, "outputs is an address", id="outputs elsewhere"),
        pytest.param({"pattern": "/in/*"}, "relative to source", id="a full pattern"),
        pytest.param({"pattern": "../*"}, "relative to source", id="a pattern that leads out"),
        pytest.param({"newer_than": "yesterday"}, "newer_than is a moment", id="no moment"),
        pytest.param({"parameters": "-v"}, "list of texts", id="a text for a list"),
        pytest.param({"parameters": [1]}, "list of texts", id="a number for a text"),
        pytest.param({"parameters": 5}, "list of texts", id="a number for a list"),
        pytest.param({"parameters": {"a": "b"}}, "list of texts", id="a mapping for a list"),
        pytest.param({"message_format": "v2"}, "must be one of", id="an unknown format"),
        pytest.param({"message_group": "a b"}, "message_group", id="a group with a space"),
        pytest.param({"message_group": "g" * 129}, "message_group", id="a group too long"),
        pytest.param({"if_empty": "wait"}, "must be one of", id="an unknown end"),
        pytest.param({"uploads": 0}, "1 to 64", id="no uploads"),
        pytest.param({"uploads": 65}, "1 to 64", id="too many uploads"),
        pytest.param({"once": "maybe"}, "once is True", id="no truth"),
        pytest.param({"manifest_prefix": "s3://bucket/in/"}, "a folder of its own", id="manifests among inputs"),
        pytest.param(
            {"message_format": "seed", "outputs": "s3://bucket/out/{stem}.png"}, "as a prefix only", id="seed, stem"
        ),
        pytest.param(
            {"message_format": "seed", "outputs": "s3://bucket/out/{name}.out"},
            "as a prefix only",
            id="seed, extension",
        ),
        pytest.param(
            {"message_format": "seed", "outputs": "s3://other/out/"}, "one bucket", id="seed, outputs in another bucket"
        ),
        pytest.param({"message_format": "seed", "parameters": ["-v"]}, "no place", id="seed, parameters"),
    ],
)
def test_what_cannot_be_enqueued_says_why(words: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        spec(**words)


def test_words_from_templates_are_read() -> None:
    found = spec(uploads="4", once="True", newer_than="2026-11-21 06:00:00+01:00", source=Path("/data/in"))
    assert (found.uploads, found.once, found.source) == (4, True, "/data/in")
    assert found.newer_than == datetime(2026, 11, 21, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize("words", ["2026-11-21", "2026-11-21T00:00:00Z", datetime(2026, 11, 21)])
def test_a_moment_without_a_zone_is_utc(words: Any) -> None:
    assert spec(newer_than=words).newer_than == datetime(2026, 11, 21, tzinfo=timezone(timedelta(0)))


def test_a_folder_in_s3_is_its_own_input() -> None:
    found = spec(source="s3://bucket/in/", input_prefix=None)
    assert found.in_place
    assert found.inputs == S3Prefix("bucket", "in/")
    assert not spec(source="s3://other/in/").in_place


@pytest.mark.parametrize(
    ("outputs", "name", "output"),
    [
        ("s3://bkt/out/", "deep/a.tar.gz", "s3://bkt/out/deep/a.tar.gz"),
        ("s3://bkt/out/{name}.out", "a b.txt", "s3://bkt/out/a b.txt.out"),
        ("s3://bkt/{stem}.png", "deep/a.tar.gz", "s3://bkt/deep/a.tar.png"),
        ("s3://bkt/{stem}.png", "x.d/none", "s3://bkt/x.d/none.png"),
        ("s3://bkt/{stem}", ".env", "s3://bkt/.env"),
        ("s3://bkt/{name}/{else}", "{stem}", "s3://bkt/{stem}/{else}"),
    ],
)
def test_outputs_are_named_after_their_files(outputs: str, name: str, output: str) -> None:
    assert spec(outputs=outputs).output_of(name) == output


def test_copies_below_their_source_are_no_files_of_it() -> None:
    found = spec(source="s3://bucket/raw", input_prefix="s3://bucket/raw/queue", pattern="**")
    assert [found.wanted()(name) for name in ("a", "queue/a", "queue/deep/a", "queued/a")] == [True, False, False, True]
    assert spec(source="s3://bucket/raw", input_prefix=None, pattern="**").wanted()("a")


def test_manifests_lie_below_the_inputs_and_are_no_inputs() -> None:
    found = spec(source="s3://bucket/in", input_prefix=None, pattern="**")
    assert str(found.manifests) == "s3://bucket/in/_manifests/"
    assert not found.wanted()("_manifests/jobs/run/run.json")
    assert not found.wanted()("another/_manifests/jobs/run/run.json")
    assert found.wanted()("manifests/x")
    assert spec(pattern="**").wanted()("_manifests/x")
    elsewhere = spec(source="s3://bucket/in", input_prefix=None, pattern="**", manifest_prefix="s3://bucket/in/sent")
    assert not elsewhere.wanted()("sent/jobs/run/run.json")

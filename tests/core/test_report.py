"""The message of a launch: what is said in which case, and how long it may get."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.images.plan import Plan
from airflow_transient.core.launch import Launch
from airflow_transient.core.message import SUBJECT_LIMIT, TEXT_LIMIT, ForChat
from airflow_transient.core.report import Told, in_words, log_command, of_run, of_task

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
LAUNCH = Launch("ec2", "t1-1", "the-nonce", ("i-1",), "eu-west-1", NOW, NOW, NOW + timedelta(hours=1), "s3://b/p/t1-1/")
PLAN = Plan("worker-abc", "worker", "abc", "ami-9", builder="i-1")
PLACE = LogPlace("main", "/work", "run", "eu-west-1")
TERMS = Terms("arn:aws:ecs:eu-west-1:1:cluster/c", ("main",), 60, 60, 3, 3, logs=(PLACE,))
BURST = Launch("ecs", "t2-1", "n", ("a", "b", "c"), "eu-west-1", NOW, NOW, NOW, ecs=TERMS)
SUCCESS: Mapping[str, Any] = {
    "outcome": "succeeded",
    "exit_code": 0,
    "kind": "ec2",
    "counts": {"succeeded": 1},
    "exit_codes": {"0": 1},
    "launched": "2026-11-21T12:00:00+00:00",
    "ended": "2026-11-21T12:04:12+00:00",
    "billed_seconds": 252,
    "log": "s3://b/p/t1-1/i-1/job.log",
    "failed": [],
    "members": [
        {"id": "i-1", "evidence": "receipt: exit 0", "instance_type": "t3.small", "public_ip": "54.1.2.3"},
    ],
}


def failed(id: str, code: int = 3, *tail: str) -> dict[str, Any]:
    return {"id": id, "outcome": "failed", "exit_code": code, "evidence": f"exit {code}", "log_tail": list(tail)}


FAILURE = {**SUCCESS, "outcome": "failed", "exit_code": 3, "failed": [failed("i-1", 3, "so far", "so bad")]}
PARTLY = {
    **SUCCESS,
    "outcome": "failed",
    "kind": "ecs",
    "counts": {"succeeded": 1, "failed": 2},
    "exit_codes": {"0": 1, "3": 2},
    "failed": [failed("b"), failed("c", 3, "why c failed")],
}


def told(**what: Any) -> Told:
    return Told(**{"dag_id": "nightly", "run_id": "run-1", "task_id": "report", **what})


@pytest.mark.parametrize(
    ("case", "subject"),
    [
        pytest.param(
            {"verdict": SUCCESS, "launch": LAUNCH}, "succeeded: nightly.report, i-1 in eu-west-1", id="success"
        ),
        pytest.param(
            {"verdict": FAILURE, "launch": LAUNCH}, "failed, exit 3: nightly.report, i-1 in eu-west-1", id="exit 3"
        ),
        pytest.param(
            {"verdict": FAILURE, "launch": LAUNCH, "state": "up_for_retry"},
            "failed, exit 3 (another try follows): nightly.report, i-1 in eu-west-1",
            id="to be tried again",
        ),
        pytest.param(
            {"verdict": PARTLY, "launch": BURST},
            "failed (2 of 3): nightly.report, 3 members in eu-west-1",
            id="a burst that failed",
        ),
        pytest.param(
            {"verdict": {**PARTLY, "outcome": "succeeded"}, "launch": BURST},
            "succeeded (1 of 3): nightly.report, 3 members in eu-west-1",
            id="a burst of which enough succeeded",
        ),
        pytest.param({"error": "SpecError: no"}, "failed: nightly.report", id="nothing launched"),
        pytest.param({"state": "failed", "launch": LAUNCH}, "failed: nightly.report, i-1 in eu-west-1", id="marked"),
        pytest.param({"state": "success", "map_index": 2}, "succeeded: nightly.report[2]", id="mapped, no verdict"),
        pytest.param({}, "unknown: nightly.report", id="nothing known"),
        pytest.param({"task_id": "größe\nX"}, "unknown: nightly.gr??e X", id="no ASCII"),
    ],
)
def test_the_subject_says_how_it_ended(case: Mapping[str, Any], subject: str) -> None:
    assert of_task(told(**case)).subject == subject


def test_a_subject_is_never_too_long_for_sns() -> None:
    subject = of_task(told(dag_id="d" * 250, verdict=FAILURE, launch=LAUNCH)).subject
    assert len(subject) == SUBJECT_LIMIT
    assert subject.startswith("failed, exit 3: ddd")


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        pytest.param(
            {"verdict": SUCCESS, "launch": LAUNCH, "cost": "0.01 USD", "links": (("EC2", "https://x"),)},
            {
                "evidence": "receipt: exit 0",
                "exit code": "0",
                "instance": "i-1 (t3.small)",
                "region": "eu-west-1",
                "public IP": "54.1.2.3",
                "up": "4 min 12 s (2026-11-21 12:00:00 to 12:04:12 UTC), 252 s billed",
                "cost": "0.01 USD",
                "log": "s3://b/p/t1-1/i-1/job.log",
                "to read it": "aws s3 cp s3://b/p/t1-1/i-1/job.log - --region eu-west-1",
                "EC2": "https://x",
            },
            id="the seeds' mail and more",
        ),
        pytest.param(
            {"verdict": PARTLY, "launch": BURST},
            {
                "members": "1 succeeded, 2 failed",
                "exit code": "0 (1 of them), 3 (2 of them)",
                "tasks": "3: a, b, c",
                "cluster": "arn:aws:ecs:eu-west-1:1:cluster/c",
                "what next": "Read the job's log.",
            },
            id="a burst",
        ),
        pytest.param({"error": "SpecError: no"}, {"error": "SpecError: no"}, id="not launched"),
        pytest.param(
            {"state": "failed", "launch": LAUNCH},
            {
                "error": "nobody waited for its end: its task was marked by hand, or ended before",
                "deadline": "2026-11-21 13:00:00 UTC; then whatever still runs of it is ended",
            },
            id="marked while it was deferred",
        ),
        pytest.param(
            {"verdict": {"outcome": "succeeded", "image_id": "ami-1", "name": "worker-12", "reused": True}},
            {"image": "ami-1 (worker-12) as before"},
            id="an image",
        ),
        pytest.param(
            {
                "verdict": {
                    "outcome": "succeeded",
                    "messages": {"processed": 99, "failed": 5, "dead_lettered": 1, "interrupted": 2},
                }
            },
            {"messages": "99 processed, 5 tries failed, 1 dead-lettered, 2 interrupted"},
            id="a queue's workers",
        ),
    ],
)
def test_what_is_known_is_told(case: Mapping[str, Any], rows: Mapping[str, str]) -> None:
    (part,) = of_task(told(**case)).parts
    said = dict(part.rows)
    assert {name: said.get(name) for name in rows} == rows


def test_what_is_not_known_is_left_out() -> None:
    (part,) = of_task(told(verdict={"outcome": "succeeded"}, state="success")).parts
    assert part.rows == (("run", "run-1"),)


def test_the_worst_of_many_speak() -> None:
    many = {**PARTLY, "failed": [failed(f"t{n}") for n in range(20)]}
    (part,) = of_task(told(verdict=many, launch=BURST)).parts
    assert [value for name, value in part.rows if name == "task"] == [f"t{n}: failed: exit 3" for n in range(5)]


def test_the_log_is_of_the_first_that_has_one() -> None:
    assert of_task(told(verdict=PARTLY, launch=BURST)).parts[0].log == "why c failed"


def test_the_nonce_of_a_launch_is_nobody_s_business() -> None:
    report = of_task(told(verdict=FAILURE, launch=LAUNCH))
    assert "the-nonce" not in report.text + report.html


@pytest.mark.parametrize(
    ("launch", "command"),
    [
        pytest.param(LAUNCH, "aws s3 cp s3://b/p/t1-1/i-1/job.log - --region eu-west-1", id="receipts"),
        pytest.param(
            Launch("ec2", "t", "n", ("i-1",), "eu-west-1", NOW, NOW, NOW),
            "aws ec2 get-console-output --instance-id i-1 --region eu-west-1 --output text",
            id="the console only",
        ),
        pytest.param(
            BURST,
            "aws logs get-log-events --log-group-name /work --log-stream-name run/main/a --region eu-west-1 "
            "--query events[].message --output text",
            id="CloudWatch",
        ),
        pytest.param(
            replace(LAUNCH, kind="image", image=PLAN),
            "aws s3 cp s3://b/p/t1-1/i-1/job.log - --region eu-west-1",
            id="a builder",
        ),
        pytest.param(replace(LAUNCH, kind="image", ids=("ami-1",), receipts=None, image=PLAN), "", id="an image"),
        pytest.param(Launch("ec2", "t", "n", (), "eu-west-1", NOW, NOW, NOW), "", id="nothing there"),
    ],
)
def test_how_to_look_at_the_log(launch: Launch, command: str) -> None:
    assert " ".join(log_command(launch)) == command


def test_an_image_that_fails_has_no_log_to_look_at() -> None:
    """Its launch is told as its builder, and what failed is not that."""
    said = {"outcome": "lost", "kind": "image", "failed": [{"id": "ami-1", "outcome": "lost", "evidence": "failed"}]}
    (part,) = of_task(told(verdict=said, launch=LAUNCH)).parts
    assert "to read it" not in dict(part.rows)


@pytest.mark.parametrize("words", ["<!channel> <https://evil.example|Click to approve>", "a & b &lt; c"])
def test_a_chat_reads_no_markup_in_it(words: str) -> None:
    bad = {**FAILURE, "failed": [{**failed("i-1", 3, words), "evidence": words}]}
    report = of_task(told(task_id="<a&b>", verdict=bad, launch=LAUNCH))
    chat = ForChat.of(report)
    assert not set(chat.text + chat.subject) & set("<>")
    assert html.unescape(chat.text) == report.text == str(report)
    assert (html.unescape(chat.subject), chat.html, str(chat)) == (report.subject, report.html, chat.text)


def test_what_a_chat_is_told_is_bounded_though_escaped() -> None:
    bad = {**FAILURE, "failed": [failed("i-1", 3, "<" * 6000)]}
    links = tuple((f"link {n}", "<" * 900) for n in range(20))
    chat = ForChat.of(of_task(told(verdict=bad, launch=LAUNCH, links=links)))
    assert len(chat.text.encode()) <= TEXT_LIMIT


def test_html_is_escaped_and_links_are_links() -> None:
    bad = {**FAILURE, "failed": [failed("i-1", 3, "<script>alert(1)</script>")]}
    links = (("a", 'https://x/"onclick="'), ("b", "javascript:alert(1)"))
    page = of_task(told(task_id="<i>", verdict=bad, launch=LAUNCH, links=links)).html
    assert "<script>" not in page
    assert "<i>" not in page
    assert '<a href="https://x/&quot;onclick=&quot;">' in page
    assert 'href="javascript' not in page


def test_control_characters_are_blanked() -> None:
    bad = {**FAILURE, "failed": [failed("i-1", 3, "\x1b[31mred\x00\r\ud800")]}
    report = of_task(told(verdict=bad, launch=LAUNCH))
    assert " [31mred" in report.text
    assert report.text.encode().isascii()


def test_secrets_are_masked_before_anything_is_cut() -> None:
    bad = {**FAILURE, "failed": [failed("i-1", 3, "secret" * 2000)]}
    report = of_task(told(verdict=bad, launch=LAUNCH, error="x"), lambda text: text.replace("secret", "*"))
    assert "secret" not in report.text
    assert "ecret" not in report.text


@pytest.mark.parametrize("before", range(255, 300))
def test_of_several_members_too(before: int) -> None:
    several = [{**failed(name, 3), "evidence": "." * before + "the-secret-of-sixteen"} for name in ("i-1", "i-2")]
    report = of_task(
        told(verdict={**PARTLY, "failed": several}), lambda text: text.replace("the-secret-of-sixteen", "*")
    )
    assert "the-s" not in report.text


def test_a_report_fits_everywhere() -> None:
    huge = {
        **PARTLY,
        "failed": [{**failed("i" * 5000, 3, *["'" * 300] * 50), "evidence": "ü" * 5000} for _ in range(20)],
        "log": "x" * 5000,
        "exit_codes": {str(n): 1 for n in range(9999)},
    }
    each = [told(task_id=f"t{n}", verdict=huge, launch=BURST, links=(("l", "y" * 9999),)) for n in range(300)]
    report = of_run("nightly", "run", "failed", None, each)
    assert len(report.text.encode()) <= TEXT_LIMIT
    assert len(report.html.encode()) < 256 * 1024
    assert report.parts[-1].title == f"… and {300 - (len(report.parts) - 2)} more launches"
    alone = of_task(each[0])
    assert len(alone.text.encode()) <= TEXT_LIMIT


def test_a_run_tells_the_worst_first() -> None:
    each = [told(task_id="good", verdict=SUCCESS), told(task_id="bad", verdict=FAILURE)]
    report = of_run("nightly", "run", "failed", "task_failure", each)
    assert report.subject == "failed: DAG nightly, launches: 1 failed, 1 succeeded"
    assert [part.title for part in report.parts] == [
        "DAG nightly: failed",
        "nightly.bad: failed",
        "nightly.good: succeeded",
    ]


@pytest.mark.parametrize(
    ("each", "words"),
    [pytest.param([], "launches: none", id="none"), pytest.param(None, "launches: not known here", id="not asked")],
)
def test_a_run_without_launches_says_so(each: Any, words: str) -> None:
    assert of_run("nightly", "run", "succeeded", "success", each).subject == f"succeeded: DAG nightly, {words}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (42, "42 s"), (252, "4 min 12 s"), (7500, "2 h 05 min"), (360000, "100 h 00 min")],
)
def test_a_time_in_words(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words

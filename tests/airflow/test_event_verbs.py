"""`airflow transient events`: what a person reads, what a script reads, and the exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_transient import cli
from airflow_transient.core.event_rules import Arn, Wanted, maker_statements, reader_statement
from airflow_transient.hooks.event_verbs import Answer, Wish, act

pytestmark = pytest.mark.sandbox

DOCS = Path(__file__).resolve().parents[2] / "docs" / "events.md"
ARN = "arn:aws:sqs:eu-west-1:123456789012:airflow-transient-events"
Do = Callable[..., Answer]


@pytest.fixture
def do(on_the_cloud: Any) -> Iterator[Do]:
    def one(verb: str, **more: Any) -> Answer:
        return act(Wish(verb, more.pop("deployment", "tests"), **more))

    yield one
    one("teardown", regions=("eu-west-1", "us-east-1"))


def test_setup_tells_what_was_done_and_what_to_configure(do: Do) -> None:
    first, again = do("setup"), do("setup")
    assert first.said.startswith("eu-west-1\n  queue airflow-transient-events     made\n")
    assert f"[transient] events_queue = {ARN}\n" in first.said
    assert f"AIRFLOW__TRANSIENT__EVENTS_QUEUE={ARN}\n" in first.said
    assert "nothing was changed" in again.said
    assert "nothing was changed" not in first.said
    assert (first.code, again.code) == (0, 0)


def test_setup_prints_the_statements_of_who_reads_and_who_makes(do: Do) -> None:
    said, arn = do("setup").said, Arn.of(ARN)
    assert json.dumps([reader_statement(arn)], indent=1) in said
    assert "sqs:ReceiveMessage" in said
    assert all(
        json.dumps(each, indent=1).replace("\n", "\n ") in said for each in maker_statements(arn, Wanted("tests"))
    )


def test_a_dry_run_names_no_account_that_it_does_not_know(do: Do) -> None:
    told = do("setup", dry_run=True)
    assert "would be made" in told.said
    assert "arn:aws:sqs:eu-west-1:<account>:airflow-transient-events" in told.said
    assert do("show").code == 1


def test_show_says_whether_the_setting_names_the_queue(do: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    do("setup")
    empty = do("show")
    assert f"[transient] events_queue is empty here: set it to {ARN}" in empty.said
    assert empty.code == 0  # of what is in AWS nothing is missing
    for words in (ARN, "airflow-transient-events", f"other,{ARN}"):
        monkeypatch.setenv("AIRFLOW__TRANSIENT__EVENTS_QUEUE", words)
        assert "[transient] events_queue names it here" in do("show").said
    for words in ("other", ARN.replace("eu-west-1", "us-east-1"), ARN.replace("123456789012", "1")):
        monkeypatch.setenv("AIRFLOW__TRANSIENT__EVENTS_QUEUE", words)
        assert f"[transient] events_queue names {words} here" in do("show").said


def test_a_setting_that_names_no_queue_is_said_so(do: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    do("setup")
    monkeypatch.setenv("AIRFLOW__TRANSIENT__EVENTS_QUEUE", "https://sqs.example/")
    told = do("show")
    assert (told.code, "'https://sqs.example/' is no queue URL" in told.said) == (1, True)


def test_show_counts_what_waits(do: Do, on_the_cloud: Any) -> None:
    do("setup")
    sqs = on_the_cloud.client("sqs")
    for _ in range(3):
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="airflow-transient-events")["QueueUrl"], MessageBody="x")
    assert "3 messages wait, 0 are being read" in do("show").said


def test_what_is_incomplete_is_exit_code_1_and_says_what_to_do(do: Do) -> None:
    told = do("show")
    assert told.code == 1
    assert "is not there" in told.said
    assert "`airflow transient events setup` makes and mends it" in told.said


def test_show_promises_to_mend_only_what_is_ours(do: Do, on_the_cloud: Any) -> None:
    sqs = on_the_cloud.client("sqs")
    url = sqs.create_queue(QueueName="airflow-transient-events")["QueueUrl"]
    told = do("show")
    sqs.delete_queue(QueueUrl=url)
    assert told.code == 1
    assert "it is there, and not ours (it has no tag" in told.said
    assert told.said.endswith("touches only what is ours: give another --queue")


def test_what_is_no_region_is_said_before_anybody_is_asked(do: Do) -> None:
    told = do("setup", regions=("eu-west1",))
    assert (told.code, told.said) == (1, "--region eu-west1: is that a region? Their names are like eu-west-1")


def test_teardown_reminds_of_the_setting(do: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    do("setup")
    monkeypatch.setenv("AIRFLOW__TRANSIENT__EVENTS_QUEUE", ARN)
    told = do("teardown")
    assert "[transient] events_queue still names" in told.said
    assert (told.code, do("teardown").code) == (0, 0)


def test_regions_are_one_setting(do: Do) -> None:
    told = do("setup", regions=("eu-west-1", "us-east-1"))
    assert f"events_queue = {ARN},{ARN.replace('eu-west-1', 'us-east-1')}\n" in told.said
    assert [region["region"] for region in told.data["regions"]] == ["eu-west-1", "us-east-1"]


def test_what_was_done_before_a_refusal_is_told(do: Do, on_the_cloud: Any) -> None:
    sqs = on_the_cloud.client("sqs", "us-east-1")
    url = sqs.create_queue(QueueName="airflow-transient-events")["QueueUrl"]
    told = do("setup", regions=("eu-west-1", "us-east-1"))
    sqs.delete_queue(QueueUrl=url)
    assert told.code == 1
    assert "queue airflow-transient-events     made" in told.said
    assert told.said.endswith("take another name with --queue")
    assert told.data["error"].startswith("us-east-1: queue airflow-transient-events is there, and not ours")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        pytest.param({"deployment": None}, "has no deployment id yet", id="no deployment"),
        pytest.param({"queue": "q.fifo"}, "give a name of up to 60 letters", id="a strange name"),
        pytest.param({"aws_conn_id": "nowhere"}, "there is no connection 'nowhere'", id="no such connection"),
    ],
)
def test_an_error_is_a_sentence(do: Do, wish: dict[str, Any], says: str) -> None:
    told = do("setup", **wish)
    assert (told.code, told.data["regions"]) == (1, [])
    assert says in told.said


def test_not_being_allowed_names_the_permission(do: Do, on_the_cloud: Any) -> None:
    on_the_cloud.faults.error("PutRule", "AccessDeniedException")
    told = do("setup")
    assert (told.code, "not allowed: events:PutRule" in told.said) == (1, True)
    on_the_cloud.faults.clear()
    assert do("setup").code == 0


def test_the_command_line_has_the_three_verbs(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    (group,) = cli.get_transient_cli_commands()
    (events,) = (command for command in group.subcommands if command.name == "events")
    for command in events.subcommands:
        parser = argparse.ArgumentParser()
        for arg in command.args:
            arg.add_to_parser(parser)
        args = parser.parse_args(["--region", "eu-west-1", "-o", "json"])
        args.subcommand = command.name
        with pytest.raises(SystemExit) as ended:
            cli.events(args)
        told = json.loads(capsys.readouterr().out)
        assert told["regions"][0]["queue"].endswith(":airflow-transient-events")
        assert ended.value.code == {"setup": 0, "teardown": 0, "show": 1}[command.name]


def test_the_docs_show_what_setup_prints(do: Do) -> None:
    shown = DOCS.read_text(encoding="utf-8").partition("$ airflow transient events setup --region eu-west-1\n")[2]
    assert do("setup").said.startswith(shown.partition("  …")[0].rstrip("\n"))
    assert ", ".join(f'"{action}"' for action in reader_statement(Arn.of(ARN))["Action"]) in shown

"""What the worker decides without AWS: refusals, delays, leases, names; and what it may be made of."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as botocore
from botocore.exceptions import ClientError

from airflow_transient import worker
from airflow_transient.worker import (
    CannotWork,
    Gone,
    Interruption,
    Options,
    QueueName,
    asking,
    options_of,
    read_message,
)
from tests.worker.world import ROOT, WORKER


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Action")


MEANINGS: dict[str, tuple[Exception, type[Exception]]] = {
    "S3 throttles": (refusal("SlowDown", 503), Interruption),
    "SQS throttles": (refusal("RequestThrottled"), Interruption),
    "too many in flight": (refusal("OverLimit"), Interruption),
    "an unknown code with 5xx": (refusal("Strange", 500), Interruption),
    "no way there": (botocore.EndpointConnectionError(endpoint_url="https://sqs"), Interruption),
    "the connection breaks": (botocore.ConnectionClosedError(endpoint_url="https://sqs"), Interruption),
    "the answer does not come": (botocore.ReadTimeoutError(endpoint_url="https://sqs"), Interruption),
    "the body is cut short": (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), Interruption),
    "the role's credentials are not to be had": (
        botocore.CredentialRetrievalError(provider="iam-role", error_msg="…"),
        Interruption,
    ),
    "no credentials at all": (botocore.NoCredentialsError(), CannotWork),
    "denied": (refusal("AccessDenied", 403), CannotWork),
    "a token given by hand has expired": (refusal("ExpiredToken", 400), CannotWork),
    "no queue": (refusal("AWS.SimpleQueueService.NonExistentQueue"), CannotWork),
    "no queue, in newer words": (refusal("QueueDoesNotExist"), CannotWork),
    "purged": (refusal("ReceiptHandleIsInvalid"), Gone),
    "visible again": (refusal("AWS.SimpleQueueService.MessageNotInflight"), Gone),
    "what botocore refuses itself": (botocore.ParamValidationError(report="Invalid bucket name"), CannotWork),
    "an unknown code with 4xx": (refusal("Strange", 400), CannotWork),
}


@pytest.mark.parametrize(("error", "meaning"), MEANINGS.values(), ids=MEANINGS.keys())
def test_each_refusal_has_one_meaning(error: Exception, meaning: type[Exception]) -> None:
    with pytest.raises(meaning), asking("Action"):
        raise error


def test_a_failed_transfer_means_what_its_answer_said() -> None:
    from boto3.exceptions import S3UploadFailedError

    failed = S3UploadFailedError("An error occurred (SlowDown)")
    failed.__context__ = refusal("SlowDown", 503)
    with pytest.raises(Interruption, match="SlowDown"), asking("PutObject"):
        raise failed


def test_the_delay_doubles_up_to_a_quarter_of_an_hour() -> None:
    assert [worker.retry_delay(n, 10) for n in (1, 2, 3, 8, 5000)] == [10, 20, 40, 900, 900]
    assert worker.retry_delay(3, 0) == 0


@pytest.mark.parametrize(
    ("elapsed", "given"),
    [(0, 120), (43000, 120), (43100, 100), (43199.5, 0), (50000, 0)],
    ids=["fresh", "late", "the rest of twelve hours", "nothing left", "past it"],
)
def test_no_more_is_asked_for_than_sqs_gives(elapsed: float, given: int) -> None:
    assert worker.lease(elapsed, 120) == given


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("jobs", QueueName("jobs")),
        ("jobs.fifo", QueueName("jobs.fifo")),
        (
            "https://sqs.eu-west-1.amazonaws.com/1/jobs",
            QueueName("jobs", "https://sqs.eu-west-1.amazonaws.com/1/jobs", "eu-west-1"),
        ),
        ("http://127.0.0.1:4566/1/jobs", QueueName("jobs", "http://127.0.0.1:4566/1/jobs")),
        ("arn:aws:sqs:us-west-2:1:jobs", QueueName("jobs", "", "us-west-2", "1")),
    ],
)
def test_a_queue_is_named_in_three_ways(words: str, found: QueueName) -> None:
    assert QueueName.of(words) == found


@pytest.mark.parametrize("words", ["two words", "arn:aws:s3:a:1:b", "https://host/jobs", ""])
def test_what_is_no_queue_is_refused(words: str) -> None:
    with pytest.raises(CannotWork, match="is no queue"):
        QueueName.of(words)


def attributes(body: str, own: dict[str, Any] | None = None) -> dict[str, Any]:
    return worker.dead_letter_attributes(body, own or {}, {"kind": "exit-code", "none": "", "reason": "r" * 500})


def test_a_dead_letter_says_why() -> None:
    assert {name: each["StringValue"] for name, each in attributes("body").items()} == {
        "kind": "exit-code",
        "reason": "r" * 500,
    }


def test_a_dead_letter_of_1_mib_keeps_its_body_and_says_what_fits() -> None:
    assert attributes("x" * worker.LONGEST_MESSAGE) == {}
    assert list(attributes("x" * (worker.LONGEST_MESSAGE - 100))) == ["kind"]


def test_a_message_s_own_attributes_come_first_and_sqs_takes_ten() -> None:
    own = {f"own{n}": {"DataType": "String", "StringValue": "x"} for n in range(9)}
    assert list(attributes("body", own)) == [*own, "kind"]


def test_what_a_message_is_told_is_printable() -> None:
    assert worker.printable("a\nb\0c" + "x" * 2000) == "a b c" + "x" * 995


# --- the command line -----------------------------------------------------------------------------------

NEEDED = ["--queue", "jobs", "--failures", "s3://bucket/failures"]


def test_everything_after_the_dashes_is_the_command() -> None:
    assert options_of([*NEEDED, "--", "convert", "--queue", "--", "x"]).command == ("convert", "--queue", "--", "x")


def test_a_relative_command_is_found_from_the_job_s_own_folder() -> None:
    assert options_of([*NEEDED, "--", "./convert"]).command == (str(Path.cwd() / "convert"),)


BAD_OPTIONS = {
    "no command": ([], "which command"),
    "nothing after the dashes": (["--"], "which command"),
    "no processes": (["--processes", "0", "--", "true"], "between 1 and 256"),
    "not a number": (["--retry-delay", "long", "--", "true"], "invalid float value: 'long'"),
    "not a whole number": (["--visibility", "2.5", "--", "true"], "invalid int value: '2.5'"),
    "a job longer than a message may be held": (["--job-timeout", "43200", "--", "true"], "between 1 and 42600"),
    "a visibility nobody can keep up": (["--visibility", "1", "--", "true"], "between 2"),
}


@pytest.mark.parametrize(("words", "why"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_wrong_options_are_refused(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        options_of([*NEEDED, *words])
    assert end.value.code == worker.USAGE
    assert why in capsys.readouterr().err


ARN = "arn:aws:sqs:eu-south-1:1:jobs"
#: The option, the queue, the environment, what the machine says (None: there is no metadata service); the region.
REGIONS: dict[str, tuple[str, str, str, str | None, str | type[Exception]]] = {
    "the option": ("eu-west-1", ARN, "us-east-1", "us-west-2", "eu-west-1"),
    "the queue": ("", ARN, "us-east-1", "us-west-2", "eu-south-1"),
    "the environment": ("", "jobs", "us-east-1", "us-west-2", "us-east-1"),
    "the machine": ("", "jobs", "", "us-west-2", "us-west-2"),
    "nobody yet: the metadata may still come": ("", "jobs", "", None, Interruption),
    "nobody": ("", "jobs", "", "", CannotWork),
}


@pytest.mark.parametrize(
    ("option", "queue", "env", "machine", "found"), REGIONS.values(), ids=[f"says {name}" for name in REGIONS]
)
def test_which_region_says(
    monkeypatch: pytest.MonkeyPatch, option: str, queue: str, env: str, machine: str | None, found: Any
) -> None:
    def metadata(path: str) -> str:
        if machine is None:
            raise OSError("no answer")
        return machine

    monkeypatch.setattr(worker, "metadata", metadata)
    monkeypatch.setattr(worker, "_session", boto3.session.Session)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_REGION", env)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    options = Options(queue, "s3://b/f", ("true",), region=option)
    if isinstance(found, str):
        assert worker.region_of(options) == found
        return
    with pytest.raises(found, match="Which region"):
        worker.region_of(options)


def test_where_the_metadata_are_disabled_nobody_asks_them_for_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_session", boto3.session.Session)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CannotWork, match="Which region"):
        worker.region_of(Options("jobs", "s3://b/f", ("true",)))


# --- what it is made of ---------------------------------------------------------------------------------


def imported(tree: ast.Module) -> set[str]:
    names = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} - {"__future__"}


def test_it_is_one_file_of_the_standard_library_and_boto3() -> None:
    tree = ast.parse(WORKER.read_text(), feature_version=(3, 9))
    assert imported(tree) <= sys.stdlib_module_names | {"boto3", "botocore"}
    assert "tomllib" not in imported(tree)


def test_boto3_is_imported_only_when_it_is_needed() -> None:
    tree = ast.parse(WORKER.read_text())
    top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
    assert imported(top) <= sys.stdlib_module_names


#: Of names that are used here, or easily would be: the Python that has them first.
NEWER = {"removeprefix": 9, "waitstatus_to_exitcode": 9, "pairwise": 10, "exception": 11, "UTC": 11, "batched": 12}


def test_it_uses_nothing_that_python_3_9_lacks() -> None:
    tree = ast.parse(WORKER.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in used if NEWER.get(name, 0) > 9} == set()
    keywords = {each.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for each in node.keywords}
    assert keywords.isdisjoint({"slots", "kw_only", "strict", "process_group"})
    assert not any(type(node).__name__ in ("Match", "TryStar") for node in ast.walk(tree))


#: What boto3 calls otherwise than IAM does.
PERMISSIONS = {
    **dict.fromkeys(("get_object", "head_object", "download_file"), "s3:GetObject"),
    "put_object": "s3:PutObject",
    "upload_file": "s3:PutObject s3:AbortMultipartUpload",
    "list_objects_v2": "s3:ListBucket",
}


def test_the_policy_in_the_docs_allows_what_it_calls_and_no_more() -> None:
    calls = re.findall(r"client\.([a-z0-9_]+)\(", WORKER.read_text())
    named = [PERMISSIONS.get(name) or "sqs:" + name.title().replace("_", "") for name in calls]
    needed = {each for names in named for each in names.split()}
    page = (ROOT / "docs" / "worker.md").read_text()
    policy = next(block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "Statement" in block)
    actions = [each["Action"] for each in json.loads(policy)["Statement"]]
    assert {name for each in actions for name in ([each] if isinstance(each, str) else each)} == needed


def test_the_message_in_the_docs_is_one() -> None:
    page = (ROOT / "docs" / "worker.md").read_text()
    body = next(block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"version"' in block)
    assert read_message(body).parameters == ("-v",)


def test_it_is_short_enough_to_be_read() -> None:
    functions = [node for node in ast.walk(ast.parse(WORKER.read_text())) if isinstance(node, ast.FunctionDef)]
    assert max((node.end_lineno or 0) - node.lineno for node in functions) < 45

"""Documents: what the original took and said, where we differ and why, and that what is accepted can be launched."""

from __future__ import annotations

import json
import os
import random
from base64 import b85encode
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.errors import SpecError
from airflow_transient.jobs.document import InvalidDocument, JobDocument, resolved
from airflow_transient.jobs.words import BAD_NAME, MASK, MISSING, NO_OBJECT, NULL, UNKNOWN

DATA = Path(__file__).parents[1] / "data" / "ecs_scheduler_documents.json"
CASES = json.loads(DATA.read_text())["job_validation"]
NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)

JOB = {"taskDefinition": "foo", "schedule": "0 0"}
MACHINE = {
    "id": "nightly",
    "kind": "ec2",
    "schedule": "0 0 3",
    "command": "echo hello",
    "imageId": "ami-0123456789abcdef0",
    "instanceType": "t3.micro",
}
#: What the original takes and we refuse: key of the input -> our words. A typo in its description of itself was one.
REFUSED_HERE: dict[str, dict[str, Any]] = {
    "bogus": {"bogus": [UNKNOWN]},
    "scheduledEnd": {"scheduledEnd": [UNKNOWN]},
    "trigger": {"trigger": {"type": ["Must be one of: sqs, noop."]}},
}


def messages(raw: Any) -> dict[str, Any]:
    with pytest.raises(InvalidDocument) as caught:
        JobDocument.of(raw)
    return caught.value.messages


def job(**more: Any) -> JobDocument:
    return JobDocument.of({**JOB, **more})


def case_id(row: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in row["input"].items() if JOB.get(name) != value})


@pytest.mark.parametrize("row", CASES, ids=case_id)
def test_as_the_original(row: dict[str, Any]) -> None:
    differs = [name for name in REFUSED_HERE if name in row["input"] and not row["errors"]]
    if differs:
        assert messages(row["input"]) == REFUSED_HERE[differs[0]]
    elif row["errors"]:
        assert messages(row["input"]) == row["errors"]
    else:
        loaded = {name: value for name, value in row["loaded"].items() if name != "parsedSchedule"}
        assert JobDocument.of(row["input"]).to_dict() == {
            name: value.replace(" ", "T") if name == "scheduleStart" else value for name, value in loaded.items()
        }


def test_the_original_s_cases_are_all_here_and_three_of_them_are_refused() -> None:
    assert len(CASES) == 18
    assert sum(bool(set(row["input"]) & set(REFUSED_HERE)) and not row["errors"] for row in CASES) == 3


#: field, what is written, what is read. By running marshmallow 2.21.
READ: list[tuple[str, Any, Any]] = [
    ("taskCount", "12", 12),
    ("taskCount", " 12 ", 12),
    ("taskCount", 3.7, 3),
    ("taskCount", True, 1),
    *(("suspended", word, True) for word in (True, 1, 1.0, "1", "t", "T", "true", "True", "TRUE")),
    *(("suspended", word, False) for word in (False, 0, "0", "f", "F", "false", "False", "FALSE")),
    ("scheduleStart", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"),
    ("scheduleStart", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00"),
    ("scheduleStart", "2026-01-01 00:00", "2026-01-01T00:00:00+00:00"),
    ("scheduleStart", "2026-01-01T00:00:00+0200", "2026-01-01T00:00:00+02:00"),
    ("scheduleStart", "2026-01-01T00:00:00-09:30", "2026-01-01T00:00:00-09:30"),
    ("scheduleStart", "2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.123456+00:00"),
    ("timezone", "America/New_York", "America/New_York"),
    ("timezone", "america/new_york", "America/New_York"),
]


@pytest.mark.parametrize(("field", "written", "read"), READ)
def test_values_are_read_as_the_original_reads_them(field: str, written: Any, read: Any) -> None:
    assert job(**{field: written}).to_dict()[field] == read


INTEGER, BOOLEAN, DATETIME = "Not a valid integer.", "Not a valid boolean.", "Not a valid datetime."
COUNT = "Must be between 1 and 50."
#: What is written over JOB, and what is said of it. Those of fields the original has: by running marshmallow 2.21.
SAID: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"taskCount": value}, {"taskCount": [COUNT]}) for value in (0, -1, 51, "51")),
    *(({"taskCount": value}, {"taskCount": [INTEGER]}) for value in ("x", "3.7", "1e1", "", [], {})),
    ({"maxCount": 0}, {"maxCount": [COUNT]}),
    *(({"suspended": value}, {"suspended": [BOOLEAN]}) for value in ("yes", "no", "on", "", 2, [], {})),
    *(
        ({"scheduleEnd": value}, {"scheduleEnd": [DATETIME]})
        for value in (
            *("2026-01-01", 1767225600, "tomorrow", "", "2026-13-01T00:00:00", "20260101T000000Z"),
            *("2026-01-01t00:00:00z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00,5Z", " 2026-01-01T00:00:00Z"),
        )
    ),
    ({"scheduleEnd": "2026-01-01T00:00:00+99:00"}, {"scheduleEnd": [DATETIME]}),
    ({"timezone": "FOO"}, {"timezone": ["Invalid timezone format: FOO"]}),
    ({"timezone": "+05:00"}, {"timezone": ["Invalid timezone format: +05:00"]}),
    ({"timezone": ""}, {"timezone": ["Invalid timezone format: "]}),
    ({"timezone": "../../../etc/passwd"}, {"timezone": ["Invalid timezone format: ../../../etc/passwd"]}),
    ({"timezone": 5}, {"timezone": ["Not a valid string."]}),
    ({"trigger": 5}, {"trigger": {"_schema": [NO_OBJECT]}}),
    ({"trigger": []}, {"trigger": {"_schema": [NO_OBJECT]}}),
    ({"trigger": {}}, {"trigger": {"type": [MISSING]}}),
    ({"trigger": {"type": 5, "queueName": None}}, {"trigger": {"type": ["Not a valid string."], "queueName": [NULL]}}),
    ({"trigger": {"type": "SQS", "queueName": "q"}}, {"trigger": {"type": ["Must be one of: sqs, noop."]}}),
    ({"trigger": {"type": "noop", "colour": 1}}, {"trigger": {"colour": [UNKNOWN]}}),
    ({"trigger": {"type": "sqs", "queueName": " "}}, {"trigger": {"queueName": ["Shorter than minimum length 1."]}}),
    ({"trigger": None}, {"trigger": [NULL]}),
    ({"overrides": "x"}, {"overrides": ["Not a valid list."]}),
    ({"overrides": None}, {"overrides": [NULL]}),
    ({"overrides": [1]}, {"overrides": {"0": {"_schema": [NO_OBJECT]}}}),
    ({"overrides": [{}]}, {"overrides": {"0": {"containerName": [MISSING]}}}),
    (
        {"overrides": [{"containerName": "c"}, {"containerName": None, "environment": None}]},
        {"overrides": {"1": {"containerName": [NULL], "environment": [NULL]}}},
    ),
    (
        {"overrides": [{"containerName": "c", "environment": 5}]},
        {"overrides": {"0": {"environment": ["Not a valid mapping type."]}}},
    ),
    ({"overrides": [{"containerName": "c", "cpu": 5}]}, {"overrides": {"0": {"cpu": [UNKNOWN]}}}),
    *(({name: "foo bar"}, {name: [BAD_NAME]}) for name in ("taskDefinition", "id")),
    *(({name: "foo\n"}, {name: [BAD_NAME]}) for name in ("taskDefinition", "id")),
    ({"taskDefinition": ""}, {"taskDefinition": [BAD_NAME]}),
    ({"taskDefinition": "ſoo"}, {"taskDefinition": [BAD_NAME]}),
    ({"taskDefinition": 5}, {"taskDefinition": ["Not a valid string."]}),
    ({"id": "x" * 246}, {"id": ["Longer than maximum length 245."]}),
    ({"taskDefinition": "x" * 246}, {"taskDefinition": ["Longer than maximum length 245."]}),
    ({"schedule": 5}, {"schedule": ["Not a valid string."]}),
    ({"schedule": None}, {"schedule": [NULL]}),
    (
        {"schedule": "x", "taskCount": 0},
        {
            "parsedSchedule": ['Invalid schedule syntax: Unrecognized expression "x" for field "second"'],
            "taskCount": [COUNT],
        },
    ),
    # Ours:
    ({"kind": "lambda"}, {"kind": ["Must be one of: ecs, ec2."]}),
    ({"retries": 11}, {"retries": ["Must be between 0 and 10."]}),
    ({"cluster": "a\nb"}, {"cluster": ["A name holds no control characters: take them out."]}),
    ({"region": ""}, {"region": ["Shorter than minimum length 1."]}),
    ({"minSuccess": True}, {"minSuccess": ["Not a valid number."]}),
    ({"networkConfiguration": "subnet-1"}, {"networkConfiguration": ["Not a valid mapping type."]}),
    (
        {"networkConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": True}},
        {
            "networkConfiguration": ["assignPublicIp must be one of: ENABLED, DISABLED."],
        },
    ),
    (
        {"imageId": "ami-1", "script": "x"},
        {name: ["No field of kind ecs: take it out."] for name in ("imageId", "script")},
    ),
]


@pytest.mark.parametrize(("more", "said"), SAID, ids=lambda value: json.dumps(value)[:60])
def test_what_is_wrong_is_told_field_by_field(more: dict[str, Any], said: dict[str, Any]) -> None:
    assert messages({**JOB, **more}) == said


@pytest.mark.parametrize("body", [None, 5, "x", [], [JOB]])
def test_what_is_no_object_is_no_document(body: Any) -> None:
    assert messages(body) == {"_schema": [NO_OBJECT]}
    with pytest.raises(InvalidDocument) as caught:
        job().merged(body)
    assert caught.value.messages == {"_schema": [NO_OBJECT]}


@pytest.mark.parametrize(
    "schedule", ["", "   ", "0 0 0 0 0 0 0 0 0", "0 0 0 * * ?", "?/5", "0 5?", "60", "0 0 0 7", "0 0 0 * * 32"]
)
def test_a_schedule_is_told_under_the_original_s_key(schedule: str) -> None:
    said = messages({**JOB, "schedule": schedule})
    assert list(said) == ["parsedSchedule"]
    assert said["parsedSchedule"][0].startswith("Invalid schedule syntax: ")


def test_an_id_alone_is_also_the_family() -> None:
    document = JobDocument.of({"id": "foo", "schedule": "0 0"})
    assert document.task_definition is None
    assert document.burst_words()["task_definition"] == "foo"
    assert "taskDefinition" not in document.to_dict()


def test_neither_id_nor_family() -> None:
    assert messages({"schedule": "0 0"}) == {"taskDefinition": [MISSING]}
    assert messages({"kind": "ec2"})["id"] == [MISSING]


def test_what_an_export_of_the_original_tells_besides_is_ignored() -> None:
    more = {
        "lastRun": "2026-01-01T00:00:00+00:00",
        "lastRunTasks": [{"taskId": "arn:…", "hostId": None}],
        "estimatedNextRun": "x",
        "link": {"rel": "item"},
        "parsedSchedule": {"second": "0"},
    }
    assert job(**more) == job()
    assert job().merged(more) == job()


def test_no_overrides_at_all_are_none() -> None:
    assert job(overrides=[]) == job()
    assert "overrides" not in job(overrides=[{"containerName": "c"}]).merged({"overrides": []}).to_dict()


def test_an_override_without_variables_has_none() -> None:
    document = job(overrides=[{"containerName": "c"}])
    assert document.overrides[0].environment == {}
    assert document.burst_words()["overrides"] == {"c": {}}
    assert document.to_dict()["overrides"] == [{"containerName": "c"}]


def test_variables_are_text_to_a_container() -> None:
    document = job(overrides=[{"containerName": "c", "environment": {"A": 5, "B": True, "C": 1.5, "D": "x"}}])
    assert document.burst_words()["overrides"] == {"c": {"A": "5", "B": "true", "C": "1.5", "D": "x"}}


# --- what a launch would be refused for is told at the field it is about

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"launchType": "FARGATE_SPOT"}, "launchType", "launchType is 'FARGATE_SPOT'"),
    ({"launchType": "FARGATE", "capacityProviders": ["x"]}, "launchType", "launchType or capacityProviders, not both"),
    ({"capacityProviders": [{"weight": 1}]}, "capacityProviders", "capacityProviders is a list"),
    ({"networkConfiguration": {"securityGroups": ["sg-1"]}}, "networkConfiguration", "needs subnets"),
    ({"networkConfiguration": {"subnet": "x"}}, "networkConfiguration", "does not know ['subnet']"),
    ({"networkConfiguration": {"awsvpcConfiguration": 5}}, "networkConfiguration", "is a dict"),
    ({"tags": {"aws:x": "1"}}, "tags", "are taken"),
    ({"tags": {f"t{n}": "" for n in range(41)}}, "tags", "is the most"),
    ({"maxRuntime": 0}, "maxRuntime", "maxRuntime is 0:00:00"),
    ({"maxRuntime": 15 * 86400}, "maxRuntime", "14 days"),
    ({"minSuccess": 1.5}, "minSuccess", "share from 0.0 to 1.0"),
    ({"minSuccess": "most"}, "minSuccess", "not 'most'"),
    ({"killScheduleRole": "me"}, "killScheduleRole", "ARN of a role"),
    ({"overrides": [{"containerName": "c", "environment": {"TRANSIENT_X": "1"}}]}, "overrides", "TRANSIENT_"),
    ({"overrides": [{"containerName": "c"}, {"containerName": "c"}]}, "overrides", "more than once"),
    ({"overrides": [{"containerName": "containerOverrides"}]}, "overrides", "call the container something else"),
    (
        {"overrides": [{"containerName": "c", "environment": {f"V{n}": "x" * 99 for n in range(99)}}]},
        "overrides",
        "8,192",
    ),
]
REFUSED_MACHINES: list[tuple[dict[str, Any], str, str]] = [
    ({"command": None, "script": "#!/bin/sh\ndate\n"}, "command", NULL),
    ({"script": "#!/bin/sh\ndate\n"}, "command", "not both"),
    ({"command": " "}, "command", "blank"),
    ({"command": 5}, "command", "Not a valid string."),
    ({"command": ["a", 5]}, "command", "Not a valid string."),
    ({"imageId": "ami"}, "imageId", "imageId 'ami' is not an AMI id"),
    ({"imageName": "x"}, "imageId", "not several"),
    ({"count": 0}, "count", "Must be at least 1."),
    ({"count": 1001}, "count", "from 1 to 1000"),
    ({"volumeSize": 99999}, "volumeSize", "from 1 to 65536"),
    ({"market": "cheap"}, "market", "one of on-demand"),
    ({"holdOnFailure": 90000}, "holdOnFailure", "holdOnFailure is 1 day"),
    ({"bootTimeout": 1}, "bootTimeout", "30 s to 2 h"),
    ({"maxRuntime": 7 * 86400}, "maxRuntime", "6 days"),
    ({"environment": {"1A": "x"}}, "environment", "no name for an environment variable"),
    ({"environment": {"A": ["x"]}}, "environment", "neither text nor a number"),
    ({"secrets": {"PASSWORD": "hunter2"}}, "secrets", "looks like a value"),
    ({"secrets": {"PASSWORD": "/prod/db"}}, "secrets", "instanceProfile"),
    ({"results": "bucket"}, "results", "s3://bucket/prefix"),
    ({"launchTemplate": {"name": "x", "colour": "y"}}, "launchTemplate", "does not know ['colour']"),
    ({"launchTemplate": {"id": 5}}, "launchTemplate", "Not a valid string."),
    ({"command": "echo " + b85encode(random.Random(7).randbytes(12_500)).decode()}, "command", "give `results`"),
    *(
        ({name: value}, name, "No field of kind ec2: take it out.")
        for name, value in (("taskDefinition", "x"), ("taskCount", 1), ("trigger", {"type": "noop"}), ("overrides", []))
    ),
]


@pytest.mark.parametrize(
    ("base", "more", "field", "words"),
    [(base, *row) for base, rows in ((JOB, REFUSED), (MACHINE, REFUSED_MACHINES)) for row in rows],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else value,
)
def test_what_cannot_be_launched_is_no_document(
    base: dict[str, Any], more: dict[str, Any], field: str, words: str
) -> None:
    said = messages({**base, **more})
    assert list(said) == [field]
    assert words in said[field][0]


@pytest.mark.parametrize("script", ["job.sh", "/etc/passwd", "job.py", "echo", "../x.sh", " #!/bin/sh\ndate"])
def test_a_script_is_its_text_and_never_a_path(script: str) -> None:
    machine = {name: value for name, value in MACHINE.items() if name != "command"}
    assert "never the path" in messages({**machine, "script": script})["script"][0]


def test_a_script_of_one_line_could_be_taken_for_a_path() -> None:
    machine = {name: value for name, value in MACHINE.items() if name != "command"}
    assert "ends with its first line" in messages({**machine, "script": "#!/../../etc/x.sh\n"})["script"][0]
    assert JobDocument.of({**machine, "script": "#!/bin/sh\ndate"}).ec2_words()["script"] == "#!/bin/sh\ndate"


# --- what it becomes


def test_a_document_in_the_words_of_the_burst_operator() -> None:
    document = job(
        id="copy",
        taskCount=2,
        maxCount=9,
        trigger={"type": "sqs", "queueName": "work", "messagesPerTask": 10},
        overrides=[{"containerName": "main", "environment": {"DAY": "{{ ds }}"}}],
        cluster="prod",
        capacityProviders=["FARGATE_SPOT", {"capacityProvider": "FARGATE", "weight": 1}],
        networkConfiguration={"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"},
        platformVersion="1.4.0",
        tags={"team": "data"},
        maxRuntime=600,
        retries=0,
        minSuccess="90%",
        region="eu-west-1",
    )
    assert document.burst_words() == {
        "task_definition": "foo",
        "task_count": 2,
        "max_count": 9,
        "queues": ["work"],
        "messages_per_task": 10,
        "overrides": {"main": {"DAY": "{{ ds }}"}},
        "cluster": "prod",
        "capacity_provider_strategies": ["FARGATE_SPOT", {"capacityProvider": "FARGATE", "weight": 1}],
        "network_configuration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"},
        "platform_version": "1.4.0",
        "tags": {"team": "data"},
        "max_runtime": 600,
        "retries": 0,
        "min_success": "90%",
        "region_name": "eu-west-1",
        "top_up": True,
        "strategy": "lag-aware",
        "hard_cap": 50,
    }


def test_a_noop_trigger_asks_no_queue() -> None:
    words = job(trigger={"type": "noop", "queueName": "q", "messagesPerTask": 5}).burst_words()
    assert not {"queues", "messages_per_task"} & set(words)


def test_a_document_in_the_words_of_the_ec2_operator() -> None:
    more = {
        "instanceType": ["t3.micro", "t3.small"],
        "launchTemplate": {"name": "base", "version": 3},
        "holdOnFailure": "600",
        "associatePublicIp": "false",
        "environment": {"N": 5},
        "retries": 1,
        "region": "eu-west-1",
    }
    assert JobDocument.of({**MACHINE, **more}).ec2_words() == {
        "command": "echo hello",
        "image_id": "ami-0123456789abcdef0",
        "instance_type": ["t3.micro", "t3.small"],
        "launch_template": {"name": "base", "version": "3"},
        "hold_on_failure": 600,
        "associate_public_ip": False,
        "environment": {"N": "5"},
        "retries": 1,
        "region_name": "eu-west-1",
    }


@pytest.mark.airflow
@pytest.mark.parametrize("raw", [JOB, {**JOB, "trigger": {"type": "sqs", "queueName": "q"}}, MACHINE])
def test_the_words_are_the_operators_own(raw: dict[str, Any]) -> None:
    from airflow_transient.operators.ec2 import TransientEc2Operator
    from airflow_transient.operators.ecs import EcsBurstOperator

    document = JobDocument.of({**raw, "retries": 3, "region": "eu-west-1", "maxRuntime": 60})
    if document.kind == "ec2":
        task: Any = TransientEc2Operator(task_id="x", **document.ec2_words())
    else:
        task = EcsBurstOperator(task_id="x", **document.burst_words())
    assert (task.retries, task.region_name, task.make_spec().max_runtime) == (3, "eu-west-1", timedelta(minutes=1))


def test_every_question_mark_becomes_a_number_once() -> None:
    document = resolved(job(schedule="?  ? 4"), lambda low, high: high)
    assert document.schedule.split() == ["59", "59", "4"]
    assert document.to_dict()["schedule"] == document.schedule
    assert document.parsed_schedule().text == "59 59 4"
    with pytest.raises(SpecError):
        job(schedule="?").parsed_schedule()


# --- PUT


def test_a_patch_replaces_whole_fields() -> None:
    before = job(trigger={"type": "sqs", "queueName": "q", "messagesPerTask": 5}, maxCount=3)
    after = before.merged({"trigger": {"type": "sqs", "queueName": "q2"}, "taskCount": "7"})
    assert after.to_dict() == {
        **JOB,
        "id": "foo",
        "taskCount": 7,
        "maxCount": 3,
        "trigger": {"type": "sqs", "queueName": "q2"},
    }
    assert before.merged({}) == before


def test_a_patch_has_no_defaults() -> None:
    assert job(taskCount=5).merged({"maxCount": 9}).task_count == 5


@pytest.mark.parametrize(
    ("patch", "field"),
    [({"id": "bar"}, "id"), ({"id": 5}, "id"), ({"kind": "ec2"}, "kind"), ({"kind": None}, "kind")],
)
def test_id_and_kind_are_for_ever(patch: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        job().merged(patch)
    assert list(caught.value.messages) == [field]
    assert job().merged({"id": "foo", "kind": "ecs"}).to_dict() == {**job().to_dict(), "kind": "ecs"}


def test_what_a_patch_leaves_is_what_is_checked() -> None:
    with pytest.raises(InvalidDocument) as caught:
        job(capacityProviders=["FARGATE"]).merged({"launchType": "EC2"})
    assert "not both" in caught.value.messages["launchType"][0]
    with pytest.raises(InvalidDocument) as caught:
        job(maxCount=5).merged({"maxCount": None})
    assert caught.value.messages == {"maxCount": [NULL]}


STORED = {"PASSWORD": "hunter2", "URL": "postgres://u:hunter2@h/db", "DAY": "mon"}
#: What is sent back -> what it becomes; None: it is refused.
MASKED: list[tuple[dict[str, str], dict[str, str] | None]] = [
    ({"PASSWORD": MASK}, {"PASSWORD": "hunter2"}),
    ({"PASSWORD": MASK, "DAY": "tue"}, {"PASSWORD": "hunter2", "DAY": "tue"}),
    ({"PASSWORD": "new"}, {"PASSWORD": "new"}),
    ({"URL": f"postgres://u:{MASK}@h/db"}, {"URL": STORED["URL"]}),
    ({"URL": MASK}, {"URL": STORED["URL"]}),
    ({"URL": f"postgres://u:h{MASK}@h/db"}, None),  # else it could be guessed letter by letter
    ({"URL": f"{MASK}://u:{MASK}@{MASK}"}, None),
    ({"URL": f"postgres://u:{MASK}@elsewhere/db"}, None),
    ({"URL": f"{MASK}x{MASK}"}, None),
    ({"DAY": f"mon{MASK}on"}, None),
    ({"NEW": MASK}, None),
]


@pytest.mark.parametrize(("sent", "kept"), MASKED)
@pytest.mark.parametrize("kind", ["ecs", "ec2"])
def test_a_masked_value_that_comes_back_keeps_what_is_stored(
    kind: str, sent: dict[str, str], kept: dict[str, str] | None
) -> None:
    def holding(variables: dict[str, str]) -> dict[str, Any]:
        if kind == "ec2":
            return {"environment": variables}
        return {"overrides": [{"containerName": "main", "environment": variables}]}

    document = JobDocument.of({**(MACHINE if kind == "ec2" else JOB), **holding(STORED)})
    shown = {**document.to_dict(), **holding({n: value.replace("hunter2", MASK) for n, value in STORED.items()})}
    if kept is not None:
        assert document.merged(holding(sent), shown).to_dict().items() >= holding(kept).items()
        return
    with pytest.raises(InvalidDocument, match="stands for a value that is not shown"):
        document.merged(holding(sent), shown)


def test_another_container_s_value_is_not_taken() -> None:
    document = job(overrides=[{"containerName": "main", "environment": STORED}])
    with pytest.raises(InvalidDocument, match="stands for a value that is not shown"):
        document.merged({"overrides": [{"containerName": "other", "environment": {"PASSWORD": MASK}}]})


@pytest.mark.parametrize(
    "patch", [{"overrides": 5}, {"overrides": [5]}, {"overrides": [{"containerName": [], "environment": {"A": MASK}}]}]
)
def test_a_patch_of_the_wrong_shape_is_told_so(patch: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        job(overrides=[{"containerName": "main", "environment": STORED}]).merged(patch)


def test_a_masked_document_is_not_taken_for_a_new_one() -> None:
    said = messages({**JOB, "overrides": [{"containerName": "c", "environment": {"PASSWORD": MASK}}]})
    assert "give the value itself" in said["overrides"]["0"]["environment"][0]


# --- bounds

TOO_MUCH: list[tuple[dict[str, Any], str, str]] = [
    ({"cluster": "x" * 5000}, "cluster", "4096 bytes"),
    ({"cluster": "é" * 2049}, "cluster", "4096 bytes"),
    ({"overrides": [{"containerName": f"c{n}"} for n in range(101)]}, "overrides", "maximum length 100"),
    ({"overrides": [{"containerName": "c", "environment": {f"V{n}": "" for n in range(101)}}]}, "overrides", "100"),
    ({"networkConfiguration": {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}}, "networkConfiguration", "deeper than 6"),
    ({"tags": {"x": "\0"}}, "tags", "NUL"),
    ({"tags": {"x": "\ud800"}}, "tags", "surrogate"),
    ({"minSuccess": float("nan")}, "_schema", "no word for"),
    (
        {"overrides": [{"containerName": "c", "environment": {f"V{n}": "x" * 4000 for n in range(20)}}]},
        "_schema",
        "65536",
    ),
    ({"x" * 70000: 1}, "_schema", "65536"),
]


@pytest.mark.parametrize(("more", "field", "words"), TOO_MUCH, ids=lambda value: str(value)[:30])
def test_a_document_has_bounds(more: dict[str, Any], field: str, words: str) -> None:
    said = messages({**JOB, **more})
    assert list(said) == [field]
    assert words in said[field][0]


def test_a_hundred_thousand_levels_are_only_too_deep() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert messages({**JOB, "networkConfiguration": deep}) == {"networkConfiguration": ["Nested deeper than 6 levels."]}
    del deep


def test_a_script_may_be_longer_than_other_texts() -> None:
    script = "#!/bin/sh\n" + "echo hello\n" * 1400
    machine = {name: value for name, value in MACHINE.items() if name != "command"}
    assert JobDocument.of({**machine, "script": script}).script == script
    assert "16384 bytes" in messages({**machine, "script": script + "x" * 2000})["script"][0]


# --- warnings

WARNED: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "0 0 0 * * 1 1 2020"}, "never fires again: there is no such moment after 2026-07-01 12:00 UTC"),
    ({"schedule": "0 0 0 * * 30 2"}, "never fires again"),
    ({"scheduleEnd": "2026-07-01T11:00:00Z"}, "never fires again"),
    ({"scheduleStart": "2027-01-01T00:00:00Z", "scheduleEnd": "2026-12-01T00:00:00Z"}, "scheduleStart is after"),
    ({"schedule": "* */5"}, "* is every second"),
    ({"taskCount": 5, "maxCount": 2}, "maxCount 2 is less than taskCount 5"),
    ({"trigger": {"type": "noop", "queueName": "q"}}, "the trigger is noop"),
    ({"minSuccess": 3, "taskCount": 2}, "minSuccess is 3, and a fire starts 2 at most"),
    ({"tags": {"day": "{{ ds }}"}}, "tags: nothing fills in {{ … }} here"),
    ({"schedule": "? ? 4"}, ""),
    ({"minSuccess": 3, "trigger": {"type": "sqs", "queueName": "q"}}, ""),
    ({"minSuccess": 0.5}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("more", "words"), WARNED, ids=lambda value: str(value)[:40])
def test_what_is_accepted_and_perhaps_not_meant_is_told(more: dict[str, Any], words: str) -> None:
    said = job(**more).warnings(NOW)
    assert len(said) == bool(words)
    assert not words or words in said[0]


def test_a_machine_is_warned_about_like_a_burst() -> None:
    assert "every second" in JobDocument.of({**MACHINE, "schedule": "*"}).warnings(NOW)[0]


# --- what always holds

set_hypothesis_home_dir(os.environ["AIRFLOW_HOME"])  # beside everything else a test run leaves behind

names = st.text("abcXYZ019-_", min_size=1, max_size=20)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="*"), max_size=30)
variables = st.dictionaries(names.map("V".__add__), texts, max_size=4)
moments = st.datetimes(timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=-9, minutes=-30))]))
fields: dict[str, st.SearchStrategy[Any]] = {
    "id": names,
    "scheduleStart": moments.map(datetime.isoformat),
    "timezone": st.sampled_from(["UTC", "Europe/Berlin", "america/new_york"]),
    "taskCount": st.integers(1, 50),
    "maxCount": st.integers(1, 50).map(str),
    "suspended": st.sampled_from([True, False, "true", 0]),
    "trigger": st.one_of(
        st.just({"type": "noop"}),
        st.fixed_dictionaries(
            {"type": st.just("sqs"), "queueName": names}, optional={"messagesPerTask": st.integers(1, 10**9)}
        ),
    ),
    "overrides": st.lists(
        st.fixed_dictionaries({"containerName": names}, optional={"environment": variables}),
        max_size=3,
        unique_by=lambda override: override["containerName"],
    ),
    "capacityProviders": st.lists(names, min_size=1, max_size=3),
    "tags": variables,
    "maxRuntime": st.integers(1, 10**6),
    "minSuccess": st.one_of(st.integers(0, 50), st.floats(0, 1), st.just("90%")),
    "cluster": names,
    "retries": st.integers(0, 10),
}
documents = st.fixed_dictionaries(
    {"taskDefinition": names, "schedule": st.sampled_from(["0 0", "0 */5", "9 ? 4", "0 0 0 mon-fri * 2nd_wed"])},
    optional=fields,
)


@given(documents)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_what_is_read_again(raw: dict[str, Any]) -> None:
    document = JobDocument.of(raw)
    said = document.to_dict()
    assert json.loads(json.dumps(said)) == said
    assert JobDocument.of(said) == document
    assert JobDocument.of(said).to_dict() == said
    assert document.merged({}) == document
    assert set(said) >= set(raw) - ({"overrides"} if not raw.get("overrides") else set())
    assert EcsSpec.of(**document.burst_words()).rule.top_up


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=6,
)
ANY_FIELD = sorted(name for name in JobDocument.model_json_schema(by_alias=True)["properties"] if name != "kind")


@given(st.dictionaries(st.sampled_from(ANY_FIELD), anything, max_size=4), st.sampled_from([JOB, MACHINE]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_written_is_a_document_or_told_in_words(more: dict[str, Any], base: dict[str, Any]) -> None:
    try:
        document = JobDocument.of({**base, **more})
    except InvalidDocument as error:
        json.dumps(error.messages)
        return
    made = Ec2Spec.of(**document.ec2_words()) if document.kind == "ec2" else EcsSpec.of(**document.burst_words())
    assert made


def test_the_description_of_a_document_shows_no_null() -> None:
    described = JobDocument.model_json_schema(by_alias=True)
    assert '"null"' not in json.dumps(described)
    assert described["properties"]["taskCount"] == {
        "default": 1,
        "description": "so many tasks at least should run after a fire",
        "maximum": 50,
        "minimum": 1,
        "title": "Taskcount",
        "type": "integer",
    }
    assert described["properties"]["trigger"]["$ref"] == "#/$defs/Trigger"
    assert described["required"] == ["id", "schedule"]

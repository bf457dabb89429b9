"""From documents to DAGs: what each is made of, that nothing in it is a template, and that nothing ends the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, literal
from airflow.serialization.serialized_objects import DagSerialization

from airflow_transient.errors import SpecError
from airflow_transient.jobs import dags as room
from airflow_transient.jobs import reading
from airflow_transient.jobs.dags import build_dags
from airflow_transient.jobs.reading import Shard
from airflow_transient.jobs.store import Snapshot, StoreDamaged, StoredJob, StoreUnreachable
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.ecs import EcsBurstOperator

pytestmark = pytest.mark.airflow

MADE = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
LATER = datetime(2026, 5, 2, tzinfo=timezone.utc)
NASTY = "{{ conn.secret_db.password }}"
ECS = {"id": "nightly", "taskDefinition": "work", "schedule": "0 30 4", "timezone": "Europe/Berlin"}
SQS = {"taskDefinition": "drain", "schedule": "0 *", "trigger": {"type": "sqs", "queueName": "jobs"}}
EC2 = {"id": "box", "kind": "ec2", "schedule": "0 0 4", "imageId": "ami-0123456789abcdef0", "instanceType": "t3.small"}


class Store:
    """Documents as they are, or an error."""

    def __init__(self, *raws: Mapping[str, Any], error: Exception | None = None) -> None:
        self.url = "file:///jobs.json"
        self.raws, self.error = raws, error

    def read(self) -> Snapshot:
        if self.error:
            raise self.error
        jobs = [StoredJob(raw.get("id") or raw["taskDefinition"], raw, 1, MADE, LATER) for raw in self.raws]
        return Snapshot(7, {job.id: job for job in jobs}, LATER, "w7")

    def replace(self, new: Snapshot, expected: int) -> None:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this host keeps the last good reading."""
    monkeypatch.setattr(reading, "_copies", lambda: tmp_path / "copies")
    return tmp_path / "copies"


def build(*raws: Mapping[str, Any], **words: Any) -> dict[str, DAG]:
    return build_dags(store=Store(*raws), **words)


def tasks(dag: DAG) -> list[str]:
    return [task.task_id for task in dag.topological_sort()]


# --- what a DAG is made of


@pytest.mark.parametrize(
    ("raw", "dag_id", "made_of", "runs"),
    [
        pytest.param(ECS, "job.nightly", ["launch", "wait"], 100, id="ecs"),
        pytest.param(SQS, "job.drain", ["depth", "launch", "wait"], 100, id="a queue sizes it"),
        pytest.param({**SQS, "trigger": {"type": "noop"}}, "job.drain", ["launch", "wait"], 100, id="noop"),
        pytest.param({**EC2, "command": "true"}, "job.box", ["launch"], 1, id="ec2"),
    ],
)
def test_what_a_job_becomes(raw: Mapping[str, Any], dag_id: str, made_of: list[str], runs: int) -> None:
    dag = build(raw)[dag_id]
    assert (tasks(dag), dag.max_active_runs, dag.catchup) == (made_of, runs, False)
    assert dag.start_date == MADE
    assert dag.is_paused_upon_creation is False
    assert all(getattr(dag.get_task(name), "deferrable", True) for name in made_of)


def test_a_fire_decides_alone_and_waits_beside_the_others() -> None:
    dag = build(ECS)["job.nightly"]
    assert dag.get_task("launch").max_active_tis_per_dag == 1
    assert dag.get_task("wait").max_active_tis_per_dag is None


def test_the_schedule_is_the_documents() -> None:
    raw = {**ECS, "scheduleStart": "2026-06-01T00:00:00Z", "scheduleEnd": "2026-07-01T00:00:00Z"}
    said = build(raw)["job.nightly"].timetable.serialize()  # type: ignore[union-attr]
    assert (said["schedule"], said["timezone"]) == ("0 30 4", "Europe/Berlin")
    assert (said["start"][:10], said["end"][:10]) == ("2026-06-01", "2026-07-01")
    assert said["not_before"] == LATER.isoformat()


@pytest.mark.parametrize(
    ("raw", "tags"),
    [
        (ECS, {"transient", "job", "ecs"}),
        ({**EC2, "command": "true"}, {"transient", "job", "ec2"}),
        ({**ECS, "cluster": "blue"}, {"transient", "job", "ecs", "blue"}),
        ({**ECS, "cluster": f"arn:aws:ecs:eu-west-1:1:cluster/{'b' * 255}"}, {"transient", "job", "ecs", "b" * 100}),
    ],
)
def test_the_tags(raw: Mapping[str, Any], tags: set[str]) -> None:
    (dag,) = (dag for dag_id, dag in build(raw).items() if dag_id.startswith("job."))
    assert set(dag.tags) == tags


@pytest.mark.parametrize(
    ("said", "launch", "wait"), [(None, 2, 2), pytest.param(0, 2, 0, id="asking AWS again repeats no job"), (5, 5, 5)]
)
def test_retries(said: int | None, launch: int, wait: int) -> None:
    dag = build({**ECS, **({} if said is None else {"retries": said})})["job.nightly"]
    assert (dag.get_task("launch").retries, dag.get_task("wait").retries) == (launch, wait)


def test_a_suspended_job_begins_paused() -> None:
    assert build({**ECS, "suspended": True})["job.nightly"].is_paused_upon_creation is True


def test_the_longest_id_there_is() -> None:
    assert f"job.{'x' * 245}" in build({**ECS, "id": "x" * 245})


def test_the_page_tells_the_document_and_no_value_of_its_environment() -> None:
    secrets = {"TOKEN": "s3cret", "PLAIN": "s3cret"}
    said = build({**ECS, "overrides": [{"containerName": "main", "environment": secrets}]})["job.nightly"].doc_md
    assert said is not None
    assert "`0 30 4` in Europe/Berlin" in said
    assert '"TOKEN": "…"' in said
    assert "PUT /transient/jobs/nightly" in said
    machine = {**EC2, "environment": secrets, "command": "mysql -p s3cret"}
    assert "s3cret" not in said + str(build(machine)["job.box"].doc_md)


def test_no_page_is_read_from_a_file() -> None:
    """Airflow takes a text that ends in .md for a path."""
    for dag in build(ECS, {**SQS, "schedule": "x.md"}).values():
        assert not str(dag.doc_md).endswith(".md")


# --- nothing is a template


NASTY_ECS: dict[str, Any] = {
    **ECS,
    "taskCount": 2,
    "cluster": NASTY,
    "launchType": "FARGATE",
    "platformVersion": NASTY,
    "region": NASTY,
    "tags": {"a": NASTY},
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": [NASTY], "securityGroups": [NASTY]}},
    "overrides": [{"containerName": NASTY, "environment": {"A": NASTY, "B": "bash /opt/nightly.sh"}}],
    "trigger": {"type": "sqs", "queueName": NASTY},
}
NASTY_EC2: dict[str, Any] = {
    **EC2,
    "command": "bash /opt/nightly.sh",
    "instanceProfile": NASTY,
    "keyName": NASTY,
    "subnetIds": [NASTY],
    "securityGroupIds": [NASTY],
    "region": NASTY,
    "environment": {"A": NASTY, "B": "bash /opt/nightly.sh"},
    "secrets": {"S": "/app/password"},
    "tags": {"a": NASTY},
    "results": f"s3://bucket/{NASTY}",
}


class Context(dict[str, Any]):
    """Whoever asks for anything in it renders a template."""

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")

    get = __getitem__  # type: ignore[assignment]


def rendered(raw: Mapping[str, Any], task: str) -> Any:
    op = next(dag for dag_id, dag in build(raw).items() if dag_id.startswith("job.")).get_task(task)
    assert "cannot be read" not in op.dag.tags
    op.render_template_fields(Context())
    return op


@pytest.mark.parametrize("task", ["launch", "wait"])
def test_no_word_of_a_burst_is_rendered_or_read_from_a_file(task: str) -> None:
    op = rendered(NASTY_ECS, task)
    spec = op.make_spec()
    assert (spec.cluster, spec.platform_version, op.region_name) == (NASTY, NASTY, NASTY)
    assert (spec.queues, spec.tags) == ((NASTY,), {"a": NASTY})
    (container,) = spec.overrides["containerOverrides"]
    assert container["name"] == NASTY
    assert [pair["value"] for pair in container["environment"]] == [NASTY, "bash /opt/nightly.sh"]
    assert spec.network["awsvpcConfiguration"]["subnets"] == [NASTY]


@pytest.mark.parametrize(
    "job",
    [
        pytest.param({"command": "bash /opt/nightly.sh"}, id="a command that ends like a file"),
        pytest.param({"command": ["bash", "-c", NASTY]}, id="a list"),
        pytest.param({"command": None, "script": "#!/bin/bash\necho {{ ds }} {% raw %}\n"}, id="a script"),
    ],
)
def test_no_word_of_a_machine_is_rendered_or_read_from_a_file(job: dict[str, Any]) -> None:
    raw = {name: value for name, value in {**NASTY_EC2, **job}.items() if value is not None}
    op = rendered(raw, "launch")
    spec = op.make_spec()
    assert (spec.environment["A"], spec.key_name, op.region_name) == (NASTY, NASTY, NASTY)
    assert spec.script == job.get("script")
    if job["command"]:
        assert spec.command == (tuple(job["command"]) if isinstance(job["command"], list) else job["command"])


def test_a_literal_script_is_its_text_whatever_it_ends_with() -> None:
    words = {"image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"}
    op = TransientEc2Operator(task_id="t", script=literal("#!/usr/local/bin/nightly.sh"), **words)
    op.render_template_fields(Context())  # type: ignore[arg-type]
    assert op._script_text() == "#!/usr/local/bin/nightly.sh"


def test_what_is_wrong_with_a_literal_is_said_where_it_is_written() -> None:
    with pytest.raises(SpecError, match="max_count is 0"):
        EcsBurstOperator(task_id="t", task_definition=literal("{{ x }}"), max_count=literal(0))


def test_the_gate_gets_its_words_as_they_are_and_airflow_renders_none_of_them() -> None:
    op = next(dag for dag_id, dag in build(NASTY_ECS).items() if dag_id.startswith("job.")).get_task("depth")
    assert op.start_trigger_args is not None
    assert op.start_trigger_args.trigger_kwargs is not None
    assert op.start_trigger_args.trigger_kwargs["words"]["queues"] == [NASTY]
    assert op.template_fields == ()


# --- the same document is the same DAG


def serialized(*raws: Mapping[str, Any]) -> dict[str, Any]:
    return {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in build(*raws).items()}


def test_an_unchanged_document_is_no_new_version_whoever_parses_it(tmp_path: Path) -> None:
    """Another process orders sets otherwise, and looks later."""
    raws = [NASTY_ECS, SQS, {**NASTY_EC2}, {"taskDefinition": "bad", "schedule": "x"}]
    script = (
        "import json, sys\n"
        "from airflow.models.serialized_dag import SerializedDagModel\n"
        "from tests.jobs.test_dags import serialized\n"
        "made = serialized(*json.loads(sys.argv[1]))\n"
        "print({dag_id: SerializedDagModel.hash(said) for dag_id, said in made.items()})\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script, json.dumps(raws)],
            env={**os.environ, "PYTHONHASHSEED": seed, "AIRFLOW_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.splitlines()[-1]
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_every_dag_survives_the_way_to_the_database() -> None:
    for said in serialized(NASTY_ECS, NASTY_EC2, SQS, {"taskDefinition": "bad", "schedule": "x"}).values():
        assert DagSerialization.from_dict(json.loads(json.dumps(said))).dag_id == said["dag"]["dag_id"]


# --- whatever is wrong stays where it is


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param({**ECS, "schedule": "x"}, "Invalid schedule syntax", id="a schedule"),
        pytest.param({**ECS, "surprise": 1}, "Unknown field", id="a field of a later version"),
        pytest.param({**EC2, "count": 0, "command": "true"}, "count", id="an instance"),
        pytest.param({"id": "empty"}, "schedule", id="nothing"),
        pytest.param({"id": "list", "schedule": ["0"]}, "Not a valid string", id="a type"),
    ],
)
def test_a_bad_document_becomes_a_dag_that_fails_with_the_reason(raw: dict[str, Any], said: str) -> None:
    made = build(raw, SQS)
    dag = made[f"job.{raw['id']}"]
    assert said in str(dag.doc_md)
    assert "cannot be read" in dag.tags
    assert dag.timetable.can_be_scheduled is False  # type: ignore[attr-defined]
    assert dag.is_paused_upon_creation is False
    with pytest.raises(SpecError, match=said):
        dag.get_task("launch").make_spec()  # type: ignore[union-attr]
    assert tasks(made["job.drain"]) == ["depth", "launch", "wait"]
    assert tasks(dag) == (["launch"] if raw.get("kind") == "ec2" else ["launch", "wait"])


def test_what_breaks_while_one_job_is_made_stays_in_that_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(words: Mapping[str, Any], fires: Any) -> None:
        if words["task_definition"] == "work":
            raise RuntimeError("a bug")

    monkeypatch.setattr(room, "_burst", burst)
    made = build(ECS, SQS)
    assert "a bug" in str(made["job.nightly"].doc_md)
    assert "cannot be read" not in made["job.drain"].tags
    assert not any(dag.auto_register for dag in made.values())  # else Airflow finds the half-made one, too, or instead


def test_an_id_that_airflow_does_not_take_is_told_by_the_service_dag() -> None:
    made = build({**ECS, "id": "no/such\nid"}, SQS)
    assert set(made) == {"transient_jobs", "job.drain"}
    assert "left out" in str(made["transient_jobs"].doc_md)


@pytest.mark.parametrize("error", [StoreUnreachable("no answer"), StoreDamaged("line 1"), RuntimeError("a bug")])
def test_a_store_that_cannot_be_read_and_no_copy_leave_the_service_dag(error: Exception) -> None:
    (dag,) = build_dags(store=Store(error=error)).values()
    assert dag.dag_id == "transient_jobs"
    assert str(error) in str(dag.doc_md)
    assert "jobs store not read" in dag.tags


@pytest.mark.parametrize("error", [StoreUnreachable("no answer"), StoreDamaged("line 1")])
def test_a_store_that_cannot_be_read_any_more_drops_no_job(error: Exception) -> None:
    before = serialized(ECS, SQS)
    after = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in build_dags(store=Store(error=error)).items()}
    service = str(after.pop("transient_jobs"))
    assert "They cannot be read there now. These are as they were on 20" in service
    before.pop("transient_jobs")
    assert after == before


def test_a_place_that_is_no_store_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRANSIENT__JOBS_STORE", "ftp://x")
    assert "jobs_store" in str(build_dags()["transient_jobs"].doc_md)


# --- the service DAG


def test_before_the_first_job_there_is_the_service_dag() -> None:
    (dag,) = build().values()
    assert (dag.dag_id, tasks(dag)) == ("transient_jobs", ["reap"])
    assert "0 scheduled jobs" in str(dag.doc_md)


def test_the_service_dag_tells_what_the_file_knows() -> None:
    dag = build(ECS, SQS)["transient_jobs"]
    assert str(dag.description).endswith("revision 7")
    for words in ("2 scheduled jobs", "file:///jobs.json", "revision 7", "2026-05-02 00:00:00 UTC"):
        assert words in str(dag.doc_md)


def test_the_reaper_looks_where_the_jobs_launch() -> None:
    task = build({**ECS, "region": "eu-central-1"}, SQS)["transient_jobs"].get_task("reap")
    assert task.regions == ["eu-central-1"]  # type: ignore[union-attr]


# --- parts, and workers


def test_each_job_is_in_one_part_and_each_part_has_a_service_dag() -> None:
    raws = [{**ECS, "id": f"job-{number}"} for number in range(40)]
    parts = [set(build(*raws, shard=number, of=3)) for number in range(3)]
    assert sum(map(len, parts)) == 40 + 3
    assert all(len(part) > 5 for part in parts)
    assert [sorted(part)[-1] for part in parts] == ["transient_jobs", "transient_jobs.1", "transient_jobs.2"]


def test_where_a_job_is_never_changes() -> None:
    """Another part would be another file: its runs would lose their DAG for a while."""
    assert [Shard(number, 4).holds("nightly") for number in range(4)] == [False, False, True, False]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(dag_id: str) -> None:
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)

    return of


def test_a_worker_builds_only_what_it_runs(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker("job.nightly")
    read: list[str] = []
    document = StoredJob.document
    monkeypatch.setattr(StoredJob, "document", lambda job: read.append(job.id) or document(job))
    assert set(build(ECS, SQS)) == {"job.nightly"}
    assert read == ["nightly"]
    assert set(build(ECS, shard=0, of=4)) == {"job.nightly"}
    worker("transient_jobs")
    assert set(build(ECS, SQS)) == {"transient_jobs"}
    worker("another")
    assert build(ECS, SQS) == {}


def test_a_worker_fails_what_is_left_of_a_deleted_job(worker: Any) -> None:
    worker("job.gone")
    (dag,) = build(ECS).values()
    assert (dag.dag_id, tasks(dag)) == ("job.gone", ["launch", "wait"])
    with pytest.raises(SpecError, match="deleted"):
        dag.get_task("launch").make_spec()  # type: ignore[union-attr]


def test_a_worker_that_knows_an_old_copy_only_says_of_no_job_that_it_is_deleted(worker: Any) -> None:
    build(ECS)
    worker("job.new")
    assert build_dags(store=Store(error=StoreUnreachable("no answer"))) == {}


def test_the_dag_file_brings_no_boto_and_no_fastapi(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from airflow_transient.jobs import build_dags\n"
        "assert 'transient_jobs' in build_dags()\n"
        "print(sorted({'boto3', 'botocore', 'fastapi', 'sqlalchemy'} & set(sys.modules)))\n"
    )
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] in ("[]", "['sqlalchemy']")

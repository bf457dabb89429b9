"""Who is told of what: by real notifiers, in a whole Airflow, and where a context lacks something."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.amazon.aws.notifications.ses import SesNotifier
from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import BaseNotifier

from airflow_transient.aws.ec2_looks import Looks
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase
from airflow_transient.core.workers import ending
from airflow_transient.core.workers.tally import Tally
from airflow_transient.errors import SpecError
from airflow_transient.links.ec2 import InstanceLink
from airflow_transient.notifications import costs, known
from airflow_transient.notifications.report import TransientReport
from tests.airflow_home import migrate
from tests.waiting import eventually

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
LAUNCH = Launch("ec2", "t1-1", "nonce-of-it", ("i-1",), "eu-west-1", NOW, NOW, NOW).to_dict()
FAILED = {
    "outcome": "failed",
    "exit_code": 3,
    "kind": "ec2",
    "failed": [{"id": "i-1", "outcome": "failed", "evidence": "exit 3", "log_tail": ["{{ 7 * 7 }}", "the end"]}],
}


class Recorder(BaseNotifier):
    template_fields = ("subject", "message")

    def __init__(self, subject: str | None = None, message: str | None = "{{ report.text }}") -> None:
        super().__init__()
        self.subject, self.message = subject, message
        self.sent: list[tuple[str | None, str | None]] = []

    def notify(self, context: Any) -> None:
        self.sent.append((self.subject, self.message))


def task(task_id: str = "job", **more: Any) -> Any:
    return SimpleNamespace(task_id=task_id, operator_extra_links=(InstanceLink(),), **more)


def context(**more: Any) -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="job", map_index=-1, try_number=1, state="failed")
    return {"ti": ti, "task": task(), "run_id": "run", **more}


@pytest.fixture
def xcoms(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Any]:
    """(task, key) -> what Airflow holds."""
    held: dict[tuple[str, str], Any] = {("job", "launch"): LAUNCH, ("job", "verdict"): FAILED}
    monkeypatch.setattr(known, "_read", lambda name, key: held.get((key["task_id"], name), {}))
    return held


# --- how it is handed over


def test_a_notifier_is_rendered_with_the_report(xcoms: Any) -> None:
    recorder = Recorder("[prod] {{ report.subject }}")
    TransientReport(recorder)(context())  # type: ignore[arg-type]
    ((subject, message),) = recorder.sent
    assert subject == "[prod] failed, exit 3: dag.job, i-1 in eu-west-1"
    assert message is not None
    assert "the end" in message


def test_what_a_job_wrote_is_no_template(xcoms: Any) -> None:
    recorder = Recorder()
    TransientReport(recorder)(context())  # type: ignore[arg-type]
    assert "{{ 7 * 7 }}" in str(recorder.sent[0][1])


class Chat(BaseNotifier):
    """As Slack's: its words are in `text`."""

    template_fields = ("text",)

    def __init__(self, text: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.sent: list[str | None] = []

    def notify(self, context: Any) -> None:
        self.sent.append(self.text)


@pytest.mark.parametrize("given", [None, "*It* is over: {{ report.text }}", "{{ report }}"])
def test_what_a_job_wrote_is_no_markup_of_a_chat(xcoms: dict[Any, Any], given: str | None) -> None:
    said = {**FAILED["failed"][0], "log_tail": ["<!channel> <https://evil.example|Click>", "a & b"]}  # type: ignore[index]
    xcoms["job", "verdict"] = {**FAILED, "failed": [said]}
    chat, mail = Chat(given), Recorder()
    TransientReport(chat, mail)(context())  # type: ignore[arg-type]
    assert "&lt;!channel&gt; &lt;https://evil.example|Click&gt;\n  | a &amp; b" in str(chat.sent[0])
    assert "<!channel> <https://evil.example|Click>\n  | a & b" in str(mail.sent[0][1])


def test_what_workers_did_with_a_queues_messages_is_told(xcoms: dict[Any, Any]) -> None:
    """In the very shape of the operator's XCom."""
    work = ending.told(Tally(processed=99, failed=5, dead_lettered=1, interrupted=2))
    xcoms["job", "verdict"] = {"outcome": "failed", "kind": "ec2", "failed": [], **work}
    text = TransientReport().report(context()).text
    assert "99 processed, 5 tries failed, 1 dead-lettered, 2 interrupted" in text


@pytest.mark.parametrize(
    ("state", "told"),
    [
        pytest.param("success", "succeeded: dag.job", id="what it returned, where an earlier try has failed"),
        pytest.param("failed", "failed, exit 3: dag.job", id="how it failed, where an earlier try has returned"),
    ],
)
def test_of_two_verdicts_that_of_its_state_is_told(xcoms: dict[Any, Any], state: str, told: str) -> None:
    xcoms["job", "return_value"] = {"outcome": "succeeded", "exit_code": 0, "kind": "ec2"}
    called = context()
    called["ti"].state = state
    assert TransientReport().report(called).subject.startswith(told)


def test_one_notifier_serves_many_tasks(xcoms: dict[Any, Any]) -> None:
    recorder = Recorder()
    tell = TransientReport(recorder)
    tell(context())  # type: ignore[arg-type]
    xcoms["job", "verdict"] = {**FAILED, "exit_code": 4}
    tell(context())  # type: ignore[arg-type]
    assert [str(subject).partition(":")[0] for subject, _ in recorder.sent] == ["failed, exit 3", "failed, exit 4"]


def test_what_is_left_out_is_filled_with_the_report(xcoms: Any) -> None:
    recorder = Recorder(None, None)
    TransientReport(recorder)(context())  # type: ignore[arg-type]
    assert str(recorder.sent[0][0]).startswith("failed, exit 3")
    assert "the end" in str(recorder.sent[0][1])


def test_a_function_finds_the_report_in_its_context(xcoms: Any) -> None:
    seen: list[str] = []
    TransientReport(lambda ctx: seen.append(ctx["report"].outcome))(context())  # type: ignore[arg-type, typeddict-item]
    assert seen == ["failed"]


@pytest.mark.parametrize(
    "notifier",
    [
        pytest.param(
            SesNotifier(
                mail_from="me@x.org", to="you@x.org", subject="{{ report.subject }}", html_content="{{ report.html }}"
            ),
            id="SES",
        ),
        pytest.param(SnsNotifier(target_arn="arn:aws:sns:eu-west-1:1:x", message="{{ report.text }}"), id="SNS"),
        pytest.param(SmtpNotifier(to="you@x.org", from_email="me@x.org"), id="SMTP"),
    ],
)
def test_the_providers_own_notifiers_take_it(xcoms: Any, notifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(type(notifier), "notify", lambda self, _: sent.append(vars(self)))
    TransientReport(notifier)(context())  # type: ignore[arg-type]
    assert sent[0]["subject"] == "failed, exit 3: dag.job, i-1 in eu-west-1"
    assert "the end" in (sent[0].get("html_content") or sent[0].get("message") or "")


def test_without_anybody_to_tell_the_log_is_told(xcoms: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        TransientReport()(context())  # type: ignore[arg-type]
    assert "failed, exit 3: dag.job" in caplog.text
    assert "the end" in caplog.text


# --- what goes wrong


def test_a_notifier_that_fails_keeps_no_other_from_its_report(
    xcoms: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "mask", lambda text: text.replace("pass&word", "***"))

    def broken(_: Any) -> None:
        raise RuntimeError("no such topic: pass&word\nand much more")

    recorder = Recorder()
    TransientReport(broken, recorder)(context())  # type: ignore[arg-type]
    assert len(recorder.sent) == 1
    assert "the report was not sent by broken: RuntimeError: no such topic: ***" in caplog.text
    assert "and much more" not in caplog.text


def test_a_context_of_nothing_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    TransientReport(lambda ctx: seen.append(ctx["report"].text))({})  # type: ignore[typeddict-item]
    assert seen[0].startswith("DAG : ended")
    assert "not known here" in seen[0]
    assert not caplog.records


def test_a_task_without_any_launch_tells_why_it_failed(xcoms: dict[Any, Any]) -> None:
    xcoms.clear()
    report = TransientReport().report(context(exception=SpecError("command needs container")))
    assert report.subject == "failed: dag.job"
    assert "SpecError: command needs container" in report.text


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"outcome": "failed", "failed": "all of them", "counts": 3, "log_tail": 1}, id="words"),
        pytest.param(
            {"outcome": "failed", "failed": [None, 3, {"log_tail": {}}], "exit_codes": {"3": "x"}}, id="lists"
        ),
        pytest.param({"outcome": ["failed"], "launched": 3, "ended": None, "billed_seconds": "x"}, id="types"),
        pytest.param({"outcome": "failed", "counts": {1: None}, "members": [{"public_ip": {}}]}, id="nested"),
    ],
)
def test_whatever_an_xcom_holds_is_no_error(xcoms: dict[Any, Any], said: Any) -> None:
    xcoms["job", "verdict"] = said
    xcoms["job", "launch"] = {"ids": 3}
    assert "failed" in TransientReport().report(context()).text


def test_a_secret_is_masked_in_every_form(xcoms: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "mask", lambda text: text.replace("pass&word", "***"))
    failed = {**FAILED["failed"][0], "evidence": "said pass&word", "log_tail": ["x" * 5995 + "pass&word"]}  # type: ignore[index]
    xcoms["job", "verdict"] = {**FAILED, "failed": [failed]}
    report = TransientReport().report(context())
    assert "word" not in report.text + report.html + report.subject
    assert "***" in report.text


def test_what_airflow_knows_for_a_secret_is_masked(mask_secret: Callable[[str], None]) -> None:
    mask_secret("hunter-two-two")
    assert known.mask("said hunter-two-two") == "said ***"


@pytest.mark.parametrize("given", [SnsNotifier, "me@x.org", None], ids=["a class", "an address", "None"])
def test_what_cannot_be_asked_is_refused_where_it_is_written(given: Any) -> None:
    with pytest.raises(SpecError, match="TransientReport was given"):
        TransientReport(given)


# --- the callback of a DAG


def test_a_run_tells_all_that_launched_the_worst_first(xcoms: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"good": "success", "job": "failed", "each_0": "success", "each_1": "failed", "other": "failed"}
    monkeypatch.setattr(known, "_states", lambda *_: {**states, "not_begun": None})
    for name in ("good", "each"):
        xcoms[name, "return_value"] = {"outcome": "succeeded"}
        xcoms[name, "launch"] = LAUNCH
    dag = SimpleNamespace(
        dag_id="dag",
        tasks=[task("good"), task(), task("each"), task("not_begun"), SimpleNamespace(task_id="other")],
    )
    report = TransientReport().report({"dag": dag, "run_id": "run", "reason": "task_failure"})
    assert report.subject == "failed: DAG dag, launches: 1 failed, 3 succeeded"
    assert [part.title.partition(":")[0] for part in report.parts[:2]] == ["DAG dag", "dag.job"]
    assert "dag.each[1]" in report.text


def test_a_task_that_was_marked_tells_what_it_had_launched(xcoms: dict[Any, Any], monkeypatch: Any) -> None:
    """Airflow runs no callback of a task that is marked while it waits in the triggerer: the DAG's tells."""
    del xcoms["job", "verdict"]
    monkeypatch.setattr(known, "_states", lambda *_: {"job": "failed"})
    dag = SimpleNamespace(dag_id="dag", tasks=[task()])
    text = TransientReport().report({"dag": dag, "run_id": "run", "reason": "task_failure"}).text
    assert "i-1" in text
    assert "nobody waited for its end" in text


def test_where_airflow_cannot_be_asked_nothing_is_claimed() -> None:
    """As in dag.test(), whose callbacks of the DAG have no way to Airflow."""
    dag = SimpleNamespace(dag_id="dag", tasks=[task()])
    report = TransientReport().report({"dag": dag, "run_id": "run", "reason": "success"})
    assert report.subject == "succeeded: DAG dag, launches: not known here"


# --- what it has cost


def test_without_prices_aws_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_look", lambda *_: pytest.fail("it was asked"))
    assert costs.cost_in_words(Launch.from_dict(LAUNCH), 60, "aws_default") is None


def test_an_image_is_not_looked_for_among_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRANSIENT__PRICES", '{"t3.small": 0.02}')
    monkeypatch.setattr(costs, "_look", lambda *_: pytest.fail("it was asked"))
    image = replace(Launch.from_dict(LAUNCH), kind="image", ids=("ami-1",))
    assert costs.cost_in_words(image, 60, "aws_default") is None


def test_an_answer_that_takes_too_long_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    never = Event()
    monkeypatch.setenv("AIRFLOW__TRANSIENT__PRICES", '{"t3.small": 0.02}')
    monkeypatch.setattr(costs, "PATIENCE", 0.05)
    monkeypatch.setattr(costs, "_look", lambda *_: never.wait(5))
    assert costs.cost_in_words(Launch.from_dict(LAUNCH), 60, "aws_default") is None
    never.set()


def test_an_unknown_connection_costs_the_cost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRANSIENT__PRICES", '{"t3.small": 0.02}')
    assert costs.cost_in_words(Launch.from_dict(LAUNCH), 60, "no_such_connection") is None


@pytest.mark.sandbox
def test_an_address_is_remembered_when_ec2_tells_it_no_more(cloud: Any) -> None:
    ec2 = cloud.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    (machine,) = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.small")["Instances"]
    launch = replace(Launch.from_dict(LAUNCH), ids=(machine["InstanceId"],))
    looks = Looks(cloud.client)
    seen = eventually(lambda: looks.observe(launch, NOW)[0].public_ip)
    ec2.terminate_instances(InstanceIds=list(launch.ids))
    eventually(lambda: looks.observe(launch, NOW)[0].phase is Phase.ENDED)
    assert looks.observe(launch, NOW)[0].public_ip == seen


# --- a whole Airflow


@dataclass
class Run:
    told: list[dict[str, str]]
    states: dict[str, str]
    instances: dict[str, str]

    def of(self, by: str, start: str) -> dict[str, str]:
        (found,) = [said for said in self.told if said["by"] == by and said["message"].startswith(start)]
        return found


@pytest.fixture(scope="module")
def finished(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of dags/told.py, whose last task was marked failed while it was deferred."""
    from tests.e2e.serving import serving

    folder = tmp_path_factory.mktemp("told")
    recorded, dags = folder / "recorded", folder / "dags"
    dags.mkdir()
    for path in (Path(__file__).parent / "dags" / "told.py", Path(__file__).parents[2] / "dags" / "transient_jobs.py"):
        shutil.copy(path, dags)
    more = {
        **cloud.env,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AIRFLOW_CONN_SECRET_DB": "postgres://me:correct-horse-battery@db/x",
        "AIRFLOW__TRANSIENT__PRICES": '{"t3.small": 36}',
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "200",
        "RECORDED": str(recorded),
    }
    with serving(folder / "home", ("api-server", "scheduler", "dag-processor", "triggerer"), more) as server:
        eventually(lambda: server.knows("told"), within=60, every=0.5)
        server.ask("PATCH", "/api/v2/dags/told", {"is_paused": False})
        run = server.ask("POST", "/api/v2/dags/told/dagRuns", {"logical_date": None}).json()["dag_run_id"]
        at = f"/api/v2/dags/told/dagRuns/{run}"

        def states() -> dict[str, str]:
            told = server.ask("GET", f"{at}/taskInstances").json()["task_instances"]
            return {t["task_id"] + (f"_{t['map_index']}" if t["map_index"] >= 0 else ""): t["state"] for t in told}

        def others() -> bool:
            now = states()
            return now.pop("long") == "deferred" and set(now.values()) <= {"success", "failed"}

        def lines() -> list[str]:
            return recorded.read_text().splitlines() if recorded.exists() else []

        eventually(others, within=240, every=0.5)
        server.ask("PATCH", f"{at}/taskInstances/long", {"new_state": "failed"})
        # Seven of tasks, one of them tried twice, and the DAG's: a task's callback may run longer than its run does.
        eventually(lambda: len(lines()) == 8 and any('"by": "dag"' in line for line in lines()), within=120, every=0.5)
        eventually(lambda: set(cloud.states().values()) == {"terminated"}, within=60, every=0.5)
        told = [json.loads(line) for line in lines()]
        yield Run(told, states(), cloud.states())


whole = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.timeout(600)]


class TestInAWholeAirflow:
    pytestmark = whole

    def test_a_success_tells_the_seeds_mail(self, finished: Run) -> None:
        said = finished.of("task", "told.good: succeeded")
        (member,) = [word.strip(",") for word in said["subject"].split() if word.startswith("i-")]
        assert said["subject"] == f"succeeded: told.good, {member} in eu-west-1"
        for words in (
            f"{member} (t3.small)",
            "region",
            "60 s billed",
            "0.6000 USD",
            "aws s3 cp s3://results/told/",
            "console.aws.amazon.com",
            "/dags/told/runs/",
        ):
            assert words in said["message"], words

    def test_a_failure_tells_its_code_and_the_end_of_its_log(self, finished: Run) -> None:
        said = finished.of("task", "told.bad: failed")
        assert said["subject"].startswith("failed, exit 3: told.bad, i-")
        assert "{% if 1 %}{{ conn.secret_db.password }} <b>" in said["message"]
        assert "<b>" not in said["html_content"].partition("<pre>")[2]
        assert "\x1b" not in said["message"]

    def test_each_mapped_one_tells_its_own(self, finished: Run) -> None:
        assert "i-" in finished.of("task", "told.each[0]: succeeded")["subject"]
        assert "(2 of 2)" in finished.of("task", "told.each[1]: succeeded")["subject"]

    def test_a_try_that_is_followed_by_another_says_so(self, finished: Run) -> None:
        subjects = [said["subject"] for said in finished.told if said["message"].startswith("told.twice")]
        assert [subject.partition(":")[0] for subject in subjects] == [
            "failed, exit 4 (another try follows)",
            "failed, exit 4",
        ]

    def test_what_could_not_be_launched_tells_why(self, finished: Run) -> None:
        assert "SpecError: results is an address" in finished.of("task", "told.wrong: failed")["message"]

    def test_the_run_tells_also_what_was_marked_while_it_was_deferred(self, finished: Run) -> None:
        (said,) = [said for said in finished.told if said["by"] == "dag"]
        assert said["subject"] == "failed: DAG told, launches: 4 failed, 3 succeeded"
        assert said["message"].count("USD") == 6
        long = said["message"].partition("told.long: failed")[2]
        assert "nobody waited for its end" in long
        assert "instance " in long.partition("told.")[0]
        assert not [one for one in finished.told if one["by"] == "task" and "told.long" in one["message"]]

    def test_a_broken_notifier_changes_no_state(self, finished: Run) -> None:
        expected = {"good": "success", "each_0": "success", "each_1": "success"}
        assert finished.states == expected | dict.fromkeys(("bad", "wrong", "twice", "long"), "failed")

    def test_no_secret_and_no_environment_is_told(self, finished: Run) -> None:
        text = json.dumps(finished.told)
        assert "correct-horse" not in text
        assert "ultramarine" not in text


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.sandbox
def test_the_example_reaches_who_has_subscribed(cloud: Any, tmp_path: Path) -> None:
    """As its author would try it; the topic's subscriber is a queue."""
    topic = cloud.client("sns").create_topic(Name="transient-reports")["TopicArn"]
    sqs = cloud.client("sqs")
    queue = sqs.create_queue(QueueName="reports")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    env = {
        **os.environ,
        **cloud.env,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[2] / "dags"),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AIRFLOW_VAR_REPORTS_TOPIC": topic,
        "AIRFLOW_VAR_RESULTS_BUCKET": "results",
    }
    migrate(env)
    argv = [sys.executable, "-m", "airflow", "dags", "test", "mailed_report"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=110)
    print(done.stdout[-6000:])
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    said = json.loads(message["Body"])
    assert said["Subject"].startswith("succeeded: mailed_report.update, i-")
    assert "aws s3 cp s3://results/mailed_report/" in said["Message"]

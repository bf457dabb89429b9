"""The boot script on machines that really boot (in a sandbox): every way out reports, and ends the machine."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_transient.aws.watching import look
from airflow_transient.core.verdict import Outcome
from airflow_transient.localcloud import LocalCloud
from tests.e2e.machines import Site, now
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.e2e]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with LocalCloud() as cloud:
        yield Site(cloud)


@pytest.mark.parametrize(
    ("words", "outcome", "exit_code"),
    [
        pytest.param({"command": "true"}, Outcome.SUCCEEDED, 0, id="success"),
        pytest.param({"command": "exit 7"}, Outcome.FAILED, 7, id="failure"),
        pytest.param({"command": ["sh", "-c", "exit 9"]}, Outcome.FAILED, 9, id="arguments"),
        pytest.param({"command": "no-such-program"}, Outcome.FAILED, 127, id="no such program"),
        pytest.param({"command": "kill -SEGV $$"}, Outcome.FAILED, 139, id="signal"),
        pytest.param({"command": "echo done # shutdown -h now"}, Outcome.SUCCEEDED, 0, id="its shutdown is a comment"),
        pytest.param({"command": "exit 0; shutdown -h now"}, Outcome.SUCCEEDED, 0, id="it exits before its shutdown"),
        pytest.param({"command": "shutdown -h now"}, Outcome.SUCCEEDED, 0, id="it shuts down itself"),
        pytest.param(
            {"command": None, "script": "#!/usr/bin/env python3\nraise SystemExit(4)\n"}, Outcome.FAILED, 4, id="python"
        ),
        pytest.param({"command": None, "script": "#!/bin/sh\r\nexit 5\r\n"}, Outcome.FAILED, 5, id="from Windows"),
        pytest.param({"command": None, "script": "#!/no/such/shell\n"}, Outcome.FAILED, 127, id="no such interpreter"),
        pytest.param({"command": "exit 6", "results": None}, Outcome.FAILED, 6, id="console only"),
    ],
)
def test_every_way_out_reports_and_ends_the_machine(
    site: Site, words: dict[str, Any], outcome: Outcome, exit_code: int | None
) -> None:
    launch = site.launch(**words)
    member = site.verdict(launch)
    assert (member.outcome, member.exit_code) == (outcome, exit_code), member.evidence
    assert site.cloud.states()[launch.ids[0]] == "terminated"
    assert site.cloud.sandbox_pids() == []


def test_a_signal_is_told_by_name(site: Site) -> None:
    assert site.run(command="kill -KILL $$").signal == "SIGKILL"


def test_its_own_timer_ends_it(site: Site) -> None:
    launch = site.launch(command="trap '' TERM; echo deaf; shutdown -c; sleep 100", max_runtime=3)
    member = site.verdict(launch, within=60)
    assert member.outcome is Outcome.OVERDUE
    assert "its own timer" in member.evidence
    assert "deaf" in site.object(launch, "job.log")


def test_terminated_by_the_api_is_stopped_whatever_the_job_says_on_its_way(site: Site) -> None:
    launch = site.launch(command="trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done")
    eventually(lambda: site.launcher.observe(launch, now())[0].started, within=20)
    site.launcher.stop(launch)
    assert site.verdict(launch).outcome is Outcome.STOPPED


def test_an_exit_code_above_128_is_not_renamed(site: Site) -> None:
    member = site.run(command="exit 150")
    assert (member.exit_code, member.signal) == (150, None)


def test_files_with_odd_names_are_uploaded(site: Site) -> None:
    launch = site.launch(
        command="""echo x >'a,b;c "d".csv' && "$TRANSIENT_PUT" 'a,b;c "d".csv' odd""", environment={"LIMIT": "all"}
    )
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED
    assert site.object(launch, "odd") == "x\n"


def test_a_job_finds_a_sane_environment(site: Site) -> None:
    launch = site.launch(command='env; pwd; [ -x "$TRANSIENT_PUT" ]', environment={"A": "it's $HOME\nline 2"})
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED
    log = site.object(launch, "job.log")
    for line in ("HOME=/root", "USER=root", "TRANSIENT_INDEX=0", "TRANSIENT_COUNT=1", "A=it's $HOME\nline 2"):
        assert line in log
    assert "FORM" not in log


def test_the_result_comes_back(site: Site) -> None:
    assert site.run(command='echo "{\\"rows\\": 7}" >"$TRANSIENT_RESULT"').result == {"rows": 7}


def test_a_result_over_the_limit_is_an_error_with_its_address(site: Site) -> None:
    member = site.run(command='head -c 20000 /dev/zero | tr "\\0" 1 >"$TRANSIENT_RESULT"')
    assert member.outcome is Outcome.FAILED
    assert "20,000 bytes, over the limit of 16,384; it is at s3://results/x/" in member.evidence


def test_a_result_without_a_bucket_is_unavailable_and_not_null(site: Site) -> None:
    member = site.run(command='echo 1 >"$TRANSIENT_RESULT"', results=None)
    assert member.outcome is Outcome.SUCCEEDED
    assert "result unavailable" in str(member.result_error)
    assert "result" not in member.to_dict()


def test_files_are_uploaded_without_a_role(site: Site) -> None:
    launch = site.launch(command='echo hello >out.txt && "$TRANSIENT_PUT" out.txt deep/out.txt')
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED
    assert site.object(launch, "deep/out.txt") == "hello\n"


def test_the_log_travels_while_the_job_runs(site: Site) -> None:
    launch = site.launch(command="echo early; sleep 30")

    def log() -> str:
        try:
            return site.object(launch, "job.log")
        except site.s3.exceptions.NoSuchKey:
            return ""

    assert eventually(log, within=25) == "early\n"
    assert site.cloud.states()[launch.ids[0]] == "running"
    site.launcher.stop(launch)


@pytest.mark.parametrize("compressible", [True, False], ids=["compressed", "fetched from the bucket"])
def test_a_job_that_is_too_long_for_user_data(site: Site, compressible: bool) -> None:
    noise = "x" * 40_000 if compressible else base64.b64encode(random.Random(7).randbytes(30_000)).decode()
    launch = site.launch(command=f"echo {noise} | wc -c")
    assert site.verdict(launch).outcome is Outcome.SUCCEEDED
    assert site.object(launch, "job.log").strip() == str(len(noise) + 1)


def test_secrets_are_fetched_on_the_machine_and_are_nowhere_else(site: Site) -> None:
    iam, ssm, kept = (site.cloud.client(s) for s in ("iam", "ssm", "secretsmanager"))
    iam.create_role(RoleName="worker", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="worker")
    iam.add_role_to_instance_profile(InstanceProfileName="worker", RoleName="worker")
    ssm.put_parameter(Name="/prod/password", Value="it's s3cret", Type="SecureString")
    arn = kept.create_secret(Name="prod-token", SecretString="t0ken")["ARN"]
    digest = hashlib.sha256(b"it's s3cret t0ken").hexdigest()
    launch = site.launch(
        command=f"""
            [ "$(printf '%s %s' "$PASSWORD" "$TOKEN_" | sha256sum | cut -c 1-64)" = {digest} ] || exit 10
            printf %s "$PASSWORD" >/run/pattern
            ! grep -aqFf /run/pattern /proc/[0-9]*/cmdline || exit 11
        """,
        secrets={"PASSWORD": "/prod/password", "TOKEN_": arn},
        instance_profile="worker",
    )
    member = site.verdict(launch)
    assert member.outcome is Outcome.SUCCEEDED, member.evidence
    attribute = site.cloud.client("ec2").describe_instance_attribute(InstanceId=launch.ids[0], Attribute="userData")
    assert "s3cret" not in base64.b64decode(attribute["UserData"]["Value"]).decode()
    assert b"s3cret" not in site.cloud.console(launch.ids[0])


def test_a_secret_that_is_not_there_is_a_failed_boot_that_says_so(site: Site) -> None:
    iam = site.cloud.client("iam")
    iam.create_role(RoleName="lonely", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="lonely")
    iam.add_role_to_instance_profile(InstanceProfileName="lonely", RoleName="lonely")
    member = site.run(command="true", secrets={"A": "/no/such"}, instance_profile="lonely")
    assert member.outcome is Outcome.BOOT_FAILED
    assert "GetParameter" in member.evidence


def test_members_know_who_they_are_and_report_one_by_one(site: Site) -> None:
    launch = site.launch(command='echo "$TRANSIENT_INDEX" >"$TRANSIENT_RESULT"; exit "$TRANSIENT_INDEX"', count=3)
    verdict = eventually(lambda: look(site.launcher, launch, now())[0], within=40)
    assert [m.result for m in verdict.members] == [0, 1, 2]
    assert [m.exit_code for m in verdict.members] == [0, 1, 2]
    assert verdict.outcome is Outcome.FAILED


def test_a_failed_machine_is_held_for_a_person_and_a_good_one_is_not(site: Site) -> None:
    bad = site.launch(command="exit 3", hold_on_failure=600, max_runtime=2)
    good = site.launch(command="true", hold_on_failure=600)
    member = site.verdict(bad)
    assert member.outcome is Outcome.FAILED
    assert "held for 600 s" in member.evidence
    assert site.verdict(good).outcome is Outcome.SUCCEEDED
    assert site.cloud.states()[bad.ids[0]] == "running"
    site.launcher.stop(bad)


def test_a_hold_ends_by_itself(site: Site) -> None:
    launch = site.launch(command="exit 3", hold_on_failure=2)
    eventually(lambda: site.cloud.states()[launch.ids[0]] == "terminated", within=30)


def test_every_receipt_is_of_this_launch(site: Site) -> None:
    launch = site.launch(command="true")
    site.verdict(launch)
    assert json.loads(site.object(launch, "receipt.json"))["nonce"] == launch.nonce

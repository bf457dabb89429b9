"""Facts about the boot script under a real systemd and a real cloud-init: every way out, told twice, and off."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_transient.core.ec2.receipts import Receipt
from airflow_transient.core.verdict import Outcome
from tests.cloud_init.groups import unified
from tests.cloud_init.machines import PASSWORD, Ended, Job

pytestmark = [pytest.mark.cloud_init, pytest.mark.slow, pytest.mark.timeout(300)]

NOISE = base64.b64encode(random.Random(7).randbytes(30_000)).decode()
UP = 'echo up >up; "$TRANSIENT_PUT" up; '
MB = 1 << 20


def on(*jobs: Job) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("machine", jobs, ids=str, indirect=True)


def row(job: Job, outcome: Outcome, **told: Any) -> Any:
    return pytest.param(job, outcome, told, id=job.name)


def told_twice(machine: Ended) -> Receipt:
    """The receipt in the bucket, after seeing that the console says the same."""
    receipt, (started, ended) = machine.receipt, machine.markers
    assert receipt
    assert started
    assert ended
    assert replace(receipt, channel="") == replace(ended, channel="")
    return receipt


WAYS_OUT = [
    row(Job("success", {"command": "true"}), Outcome.SUCCEEDED, exit_code=0, cause="exit"),
    row(Job("failure", {"command": "exit 3"}), Outcome.FAILED, exit_code=3, cause="exit"),
    row(Job("signal", {"command": "kill -SEGV $$"}), Outcome.FAILED, signal="SIGSEGV", cause="signal"),
    row(Job("python", {"command": None, "script": "#!/usr/bin/env python3\nexit(4)\n"}), Outcome.FAILED, exit_code=4),
    row(Job("no such interpreter", {"command": None, "script": "#!/no/such\n"}), Outcome.FAILED, exit_code=127),
    row(Job("compressed", {"command": f"echo {'x' * 40_000} | wc -c"}), Outcome.SUCCEEDED, exit_code=0, log_bytes=6),
    row(Job("fetched by a stub", {"command": f"echo {NOISE} | wc -c"}), Outcome.SUCCEEDED, exit_code=0, log_bytes=6),
    row(Job("leaves a daemon", {"command": "setsid sleep 1000 & exit 0"}), Outcome.SUCCEEDED, exit_code=0),
    row(Job("timer", {"command": "sleep 100", "max_runtime": 3}), Outcome.OVERDUE, cause="overdue"),
    row(
        Job("deaf at the timer", {"command": "trap '' TERM; shutdown -c; sleep 100", "max_runtime": 3}, bound=45),
        Outcome.OVERDUE,
        cause="overdue",
        signal="SIGKILL",
    ),
    row(
        Job("no such secret", {"secrets": {"A": "/no/such"}, "instance_profile": "worker"}),
        Outcome.BOOT_FAILED,
        cause="setup",
    ),
    # Where it asks for its end itself, EC2 says so, and what the job said of itself counts.
    row(
        Job("shuts down itself", {"command": "shutdown -h now; sleep 0.3"}),
        Outcome.SUCCEEDED,
        phase="cut",
        exit_code=0,
    ),
    row(
        Job("shuts down too early", {"command": "shutdown -h now; sleep 30"}),
        Outcome.FAILED,
        phase="cut",
        signal="SIGTERM",
    ),
    row(Job("reboots", {"command": "reboot; sleep 30"}), Outcome.FAILED, phase="cut", signal="SIGTERM"),
    # Where somebody else does, EC2 says that, and the job's last word does not matter.
    row(
        Job("powered off", {"command": UP + "sleep 100"}, power_off_at="up"),
        Outcome.STOPPED,
        phase="cut",
        signal="SIGTERM",
    ),
    row(
        Job("powered off, exits 0", {"command": f"trap 'exit 0' TERM; {UP} sleep 100 & wait"}, power_off_at="up"),
        Outcome.STOPPED,
        phase="cut",
    ),
    row(
        Job("powered off, deaf", {"command": f"trap '' TERM; {UP} sleep 100"}, power_off_at="up", bound=45),
        Outcome.STOPPED,
        phase="cut",
        signal="SIGKILL",
    ),
    row(
        Job(
            "powered off, saves its work",
            {"command": f"trap 'sleep 3; echo 7 >$TRANSIENT_RESULT; exit 0' TERM; {UP} sleep 100 & wait"},
            power_off_at="up",
        ),
        Outcome.STOPPED,
        phase="cut",
        exit_code=0,
        result_bytes=2,
    ),
]


@pytest.mark.parametrize(("machine", "outcome", "told"), WAYS_OUT, indirect=["machine"])
def test_every_way_out_is_told_in_the_bucket_and_on_the_console(
    machine: Ended, outcome: Outcome, told: dict[str, Any]
) -> None:
    receipt = told_twice(machine)
    told = {"phase": "end", "instance": machine.id, **told}
    assert {name: getattr(receipt, name) for name in told} == told
    assert machine.member
    assert machine.member.outcome is outcome, machine.member.evidence


@on(Job("memory", {"command": "exec python3 -c 'bytearray(2 << 30)'"}, memory=400 * MB))
def test_a_job_that_the_kernel_kills_for_memory(machine: Ended) -> None:
    receipt = told_twice(machine)
    assert receipt.signal == "SIGKILL"
    assert receipt.cause == ("oom-kill" if unified() else "signal")  # cgroup v1 does not tell systemd why


@on(Job("no network", {"command": "echo hello; exit 4"}, bucket=False))
def test_without_a_network_the_console_is_the_receipt(machine: Ended) -> None:
    assert machine.objects == {}
    started, ended = machine.markers
    assert started
    assert ended
    assert (ended.exit_code, ended.log_bytes) == (4, 6)
    assert "hello" in machine.console.rpartition("last lines of the job's output:")[2]


@on(Job("saves a result", {"command": 'echo \'{"rows": 7}\' >"$TRANSIENT_RESULT"'}))
def test_the_result_is_there_before_the_receipt_says_so(machine: Ended) -> None:
    assert machine.objects["result.json"] == '{"rows": 7}\n'
    assert told_twice(machine).result_bytes == 12


@on(Job("held", {"command": "exit 3", "hold_on_failure": 4}))
def test_a_failed_machine_is_held_and_then_goes_off(machine: Ended) -> None:
    assert told_twice(machine).exit_code == 3
    assert "held for 4 s" in machine.console
    assert machine.seconds > 4


# --- what a job finds ------------------------------------------------------------------------------------

LOOK_AROUND = f"""
env | sort; pwd; umask
grep ' /run ' /proc/mounts
systemctl list-units --no-legend 'transient-*'
[ "$(printf %s "$PASSWORD" | sha256sum | cut -c 1-64)" = {hashlib.sha256(PASSWORD.encode()).hexdigest()} ] || exit 10
printf %s "$PASSWORD" >pattern
! grep -aqFf pattern /proc/[0-9]*/cmdline || exit 11
head -c 4000000 /dev/zero >big
"$TRANSIENT_PUT" big deep/big & while kill -0 $! 2>/dev/null; do ps axww; done
wait $!
"""
LOOKS = Job(
    "looks around",
    {
        "command": LOOK_AROUND,
        "environment": {"A": "it's $HOME\nline 2"},
        "secrets": {"PASSWORD": "/prod/password"},
        "instance_profile": "worker",
    },
)


@on(LOOKS)
def test_a_job_finds_what_cloud_init_does_not_give(machine: Ended) -> None:
    assert told_twice(machine).exit_code == 0, machine.log[-2000:]
    lines = machine.log.splitlines()
    expected = {"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8", "/root", "0022"}
    expected |= {"TRANSIENT_INDEX=0", "TRANSIENT_COUNT=1", "TRANSIENT_LAUNCH=t", "A=it's $HOME", "line 2"}
    assert expected - set(lines) == set()


@on(LOOKS)
def test_run_does_not_execute_and_the_job_runs_all_the_same(machine: Ended) -> None:
    assert "noexec" in next(line for line in machine.log.splitlines() if line.startswith("tmpfs /run "))


@on(LOOKS)
def test_job_and_timer_are_units_that_a_person_finds(machine: Ended) -> None:
    for unit in ("transient-job.service", "transient-timer.service"):
        assert f"{unit} " in machine.log


@on(LOOKS)
def test_no_process_list_shows_the_signed_form_or_a_secret(machine: Ended) -> None:
    assert "--form-string key=" in machine.log  # an upload was seen at work
    for word in ("policy", "signature", "credential"):
        assert f"x-amz-{word}" not in machine.log.lower()
    assert "s3cret" not in machine.console


# --- what never gets as far as our script ----------------------------------------------------------------


def refused(name: str, user_data: Callable[[str], bytes], words: str) -> Any:
    return pytest.param(Job(name, user_data=user_data, idles=True), words, id=name)


REFUSED = [
    refused("no shebang", lambda script: script.partition("\n")[2].encode(), "Unhandled non-multipart"),
    refused("byte order mark", lambda script: b"\xef\xbb\xbf" + script.encode(), "Unhandled non-multipart"),
    refused("base64 twice", lambda script: base64.b64encode(script.encode()), "Unhandled non-multipart"),
    refused("blank line first", lambda script: b"\n" + script.encode(), "Failed to run module scripts-user"),
    refused("no such shell", lambda script: script.replace("/bin/", "/no/", 1).encode(), "Failed to run module"),
    refused("broken YAML", lambda script: b"#cloud-config\nruncmd: [\n", "ended without running the boot script"),
    refused("no user data", lambda script: b"", "ended without running the boot script"),
]


@pytest.mark.parametrize(("machine", "words"), REFUSED, indirect=["machine"])
def test_what_cloud_init_refuses_is_evidence_on_its_real_console(machine: Ended, words: str) -> None:
    assert machine.evidence
    assert words in machine.evidence
    assert machine.markers == (None, None)
    assert machine.member
    assert machine.member.outcome is Outcome.BOOT_FAILED


@on(LOOKS)
def test_what_cloud_init_runs_is_no_such_evidence(machine: Ended) -> None:
    assert machine.evidence is None

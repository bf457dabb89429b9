"""Machines that go wrong: what one sees of each from outside."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_transient.localcloud import LocalCloud, troubles
from airflow_transient.localcloud.faults import Faults
from tests.waiting import eventually

from .conftest import Launcher

pytestmark = pytest.mark.sandbox
IMDS = "http://169.254.169.254/latest/meta-data"
# As guest/boot.sh starts a job.
JOB = """#!/bin/bash
mkdir -p /run/transient
setsid sh -c 'sleep 60; echo survived' & echo $! >/run/transient/job.pid
wait $!; echo "job ended with $?"; shutdown -h now
"""


def stopped(pid: int) -> list[str]:
    """States of the processes below: T is stopped."""
    states = []
    with suppress(OSError):  # one that has just ended
        for task in Path("/proc", str(pid), "task").glob("*/children"):
            for child in task.read_text().split():
                stat = Path("/proc", child, "stat").read_text()
                states += [stat.rpartition(")")[2].split()[0], *stopped(int(child))]
    return states


def silent(cloud: LocalCloud, name: str) -> bool:
    """For longer than five of its ticks."""
    text = cloud.console(name)
    time.sleep(0.1)
    return cloud.console(name) == text


def test_only_the_next_machine_is_faulty(faults: Faults, launch: Launcher) -> None:
    fault = faults.guest("cloud-init-refuses")
    first = launch("#!/bin/sh\necho ran\n")
    second = launch("#!/bin/sh\necho ran\n")
    launch.prints(second, "\nran\n")
    launch.prints(first, "finished at")
    assert "Unhandled non-multipart (text/x-not-multipart) userdata" in launch.cloud.console(first).decode()
    assert "ran\n" not in launch.cloud.console(first).decode()
    assert faults.hits(fault) == 1


def test_a_machine_that_hangs_stands_still(cloud: LocalCloud, faults: Faults, launch: Launcher) -> None:
    faults.guest("hang")
    before = set(cloud.sandbox_pids())
    name = launch(JOB.replace("wait", "echo started; while :; do echo tick; sleep 0.02; done; wait"))
    (pid,) = set(cloud.sandbox_pids()) - before or eventually(lambda: set(cloud.sandbox_pids()) - before)
    launch.prints(name, "tick")
    eventually(lambda: stopped(pid).count("T") >= 3)
    eventually(lambda: silent(cloud, name))
    assert launch.until(name, "running")
    launch.ec2.terminate_instances(InstanceIds=[name])
    assert launch.until(name, "terminated")


def test_a_machine_that_never_boots_is_running_and_says_nothing(faults: Faults, launch: Launcher) -> None:
    faults.guest("never-boots")
    name = launch("#!/bin/sh\necho ran\n")
    other = launch("#!/bin/sh\necho ran\n")
    launch.until(name, "running")
    launch.prints(other, "finished at")
    assert launch.cloud.console(name) == b""
    launch.ec2.terminate_instances(InstanceIds=[name])
    assert launch.until(name, "terminated")["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_a_machine_without_network_reaches_nothing(faults: Faults, launch: Launcher) -> None:
    faults.guest("no-network")
    text = launch.run(f"curl -sS -m 3 {launch.cloud.url}; curl -sS -m 3 {IMDS}/instance-id; echo codes: $?")
    assert text.count("curl: (7)") == 2
    assert "codes: 7" in text


def test_a_machine_with_a_full_disk_keeps_nothing(faults: Faults, launch: Launcher) -> None:
    faults.guest("disk-full")
    text = launch.run("for f in /tmp /var/log /var/lib; do seq 9999 >$f/x; done; seq 9 >/run/x && echo memory is left")
    assert text.count("No space left on device") == 3
    assert "memory is left" in text


def test_a_job_out_of_memory_is_killed_by_the_kernel(faults: Faults, launch: Launcher) -> None:
    faults.guest("out-of-memory")
    name = launch(JOB)
    launch.until(name, "terminated")
    text = launch.cloud.console(name).decode()
    assert re.search(r"\[ *\d+\.\d+\] Out of memory: Killed process \d+ \(\w+\) total-vm:", text)
    assert "job ended with 137" in text
    assert "\nsurvived\n" not in text


def test_a_restarted_machine_is_well(faults: Faults, launch: Launcher) -> None:
    faults.guest("never-boots")
    name = launch("#!/bin/sh\necho ran\n")
    launch.until(name, "running")
    launch.ec2.stop_instances(InstanceIds=[name])
    launch.until(name, "stopped")
    launch.ec2.start_instances(InstanceIds=[name])
    launch.prints(name, "finished at")


def test_a_failed_host_takes_its_machine_without_grace(cloud: LocalCloud, launch: Launcher) -> None:
    name = launch("#!/bin/bash\ntrap 'echo told' TERM\necho ready\nwhile :; do sleep 0.05; done\n")
    launch.prints(name, "ready")
    cloud.fail_host(name)
    machine = launch.until(name, "terminated")
    assert machine["StateReason"]["Code"] == "Server.InternalError"
    assert "told" not in cloud.console(name).decode()
    cloud.fail_host(name)
    assert launch.describe(name)["StateReason"]["Code"] == "Server.InternalError"


def test_a_machine_whose_host_fails_at_once_ends_too(cloud: LocalCloud, launch: Launcher) -> None:
    names = [launch("#!/bin/sh\nsleep 60\n") for _ in range(5)]
    for name in names:
        cloud.fail_host(name)
    for name in names:
        assert launch.until(name, "terminated")["StateReason"]["Code"] == "Server.InternalError"


def test_a_reclaimed_spot_machine_is_told_and_then_gone(cloud: LocalCloud, launch: Launcher) -> None:
    script = f"""#!/bin/bash
        trap 'echo told; exit' TERM
        echo ready; until curl -sf {IMDS}/spot/instance-action; do sleep 0.05; done; while :; do sleep 0.05; done"""
    name = launch(script, InstanceMarketOptions={"MarketType": "spot"})
    launch.prints(name, "ready")
    cloud.reclaim(name, notice=1.0)
    launch.prints(name, '"action": "terminate"')
    machine = launch.until(name, "terminated")
    assert machine["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert "told" in cloud.console(name).decode()
    wanted = [machine["SpotInstanceRequestId"]]
    (asked,) = launch.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=wanted)["SpotInstanceRequests"]
    assert (asked["State"], asked["Status"]["Code"]) == ("closed", "instance-terminated-no-capacity")


def test_troubles_are_for_process_1_only() -> None:
    with pytest.raises(RuntimeError, match="process 1"):
        troubles.start("hang", print)

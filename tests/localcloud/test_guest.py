"""Guests boot for real: what they see, what they print, and how they end."""

from __future__ import annotations

import gzip
import os
import re

import pytest

from airflow_transient.localcloud import LocalCloud, SandboxUnavailable
from airflow_transient.localcloud.sandbox import CAPABILITIES, Unshare, choose, probe
from tests.waiting import eventually

from .conftest import Launcher, launcher

pytestmark = pytest.mark.sandbox


# --- what a script finds ------------------------------------------------------------------------------------------


def test_the_environment_is_cloud_inits(launch: Launcher) -> None:
    os.environ["LOCALCLOUD_LEAK"] = "yes"
    text = launch.run("env -0 | tr '\\0' ' '; echo; pwd; umask; echo $0; tty; id -u; ulimit -n")
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in text
    assert "LANG=C.UTF-8" in text
    assert not re.search(r"HOME=|USER=|SHELL=|LEAK|AWS_(?!ENDPOINT_URL)", text)
    assert "/\n0022\n/var/lib/cloud/instance/scripts/part-001\nnot a tty\n0\n1024\n" in text


def test_cloud_inits_own_files_are_there(launch: Launcher) -> None:
    name = launch("#!/bin/sh\necho id:$(cat /var/lib/cloud/data/instance-id)\n")
    launch.prints(name, f"id:{name}")
    launch.prints(name, "finished at")


def test_console_and_output_keep_their_order(launch: Launcher) -> None:
    text = launch.run("for n in 1 3 5; do echo line $n; echo line $((n + 1)) >/dev/console; done; echo line 7 >&2")
    assert re.findall(r"line (\d)", text) == list("1234567")


def test_gzipped_user_data_runs(launch: Launcher) -> None:
    name = launch(gzip.compress(b"#!/bin/sh\necho unpacked\nshutdown -h now\n"))
    launch.until(name, "terminated")
    assert "unpacked" in launch.cloud.console(name).decode()


def test_what_cloud_init_ignores_leaves_the_machine_idle(launch: Launcher) -> None:
    name = launch("echo no shebang; shutdown -h now\n")
    launch.prints(name, "Unhandled non-multipart")
    assert launch.until(name, "running")


def test_a_script_that_only_ends_leaves_the_machine_running(launch: Launcher) -> None:
    name = launch("#!/bin/sh\nexit 3\n")
    launch.prints(name, "Failed to run module scripts-user")
    assert launch.until(name, "running")["StateReason"]["Code"] == ""


def test_a_missing_interpreter_is_told_on_the_console(launch: Launcher) -> None:
    name = launch("#!/no/such/shell\n")
    launch.prints(name, "No such file or directory")


def test_python3_is_found(launch: Launcher) -> None:
    assert "python says 42" in launch.run("python3 -c 'print(\"python says\", 6 * 7)'")


# --- apart from its host ------------------------------------------------------------------------------------------


def test_the_hosts_files_cannot_be_written(launch: Launcher) -> None:
    text = launch.run("for f in / /usr /etc /opt; do touch $f/localcloud-was-here && echo WROTE $f; done")
    assert "WROTE" not in text
    assert text.count("Read-only file system") >= 3


def test_personal_folders_are_empty(launch: Launcher) -> None:
    text = launch.run("ls -A /root /home /mnt 2>/dev/null | grep -v : | sort -u; echo :end; cat /etc/shadow 2>&1")
    assert "(localcloud)\n\n:end\n" in text
    assert "root:" not in text


def test_covers_cannot_be_lifted(launch: Launcher) -> None:
    places = "/root /home /etc/ssh /proc/sys /proc /var"
    text = launch.run(
        f"for p in {places}; do umount -l $p && echo LIFTED $p; mount -o remount,rw $p && echo OPENED $p; done\n"
        "mount -o remount,rw / && echo OPENED; mount -t proc proc /tmp && echo MOUNTED\n"
        "mknod /tmp/d b 8 0 && echo MADE\n"
        "unshare -m true && echo UNSHARED; grep CapEff /proc/self/status"
    )
    assert not re.findall("LIFTED|OPENED|MOUNTED|MADE|UNSHARED", text)
    assert re.findall(r"CapEff:\s*(\w+)", text) == [f"{sum(1 << n for n in CAPABILITIES.values()):016x}"]


def test_the_dangerous_files_of_proc_are_closed(launch: Launcher) -> None:
    # Opened for writing only: were it open, and written to, this machine would go off.
    line = "for f in /proc/sysrq-trigger /proc/sys/kernel/panic; do if : 3>>$f; then echo OPEN $f; fi; done"
    assert "OPEN" not in launch.run(line)


def test_nothing_but_the_endpoint_is_reached(launch: Launcher) -> None:
    port = launch.cloud.url.rsplit(":", 1)[1]
    line = f"""for a in 127.0.0.1/{port} 127.0.0.1/22 169.254.169.254/80 1.1.1.1/443; do
        if (: 3<>/dev/tcp/$a) 2>/dev/null; then echo reached $a; fi; done; ls /sys/class/net 2>/dev/null | wc -l"""
    assert re.findall(r"reached (\S+)", launch.run(line)) == [f"127.0.0.1/{port}", "169.254.169.254/80"]


def test_guests_do_not_see_other_processes(launch: Launcher) -> None:
    text = launch.run("echo processes: $(ls /proc | grep -c '^[0-9]')")
    assert int(re.findall(r"processes: (\d+)", text)[0]) < 10


def test_tmp_is_bounded(launch: Launcher) -> None:
    text = launch.run("echo kilobytes: $(df -k /tmp | awk 'END {print $2}')")
    assert int(re.findall(r"kilobytes: (\d+)", text)[0]) <= 512 * 1024


def test_a_chatty_guest_keeps_the_end_of_its_console(launch: Launcher) -> None:
    name = launch("#!/bin/sh\nseq 1 200000\necho the very end\nshutdown -h now\n")
    launch.until(name, "terminated")
    assert len(launch.cloud.console(name)) <= 256 * 1024
    assert len(launch.console_output(name)) == 64 * 1024
    assert "\n200000\nthe very end\n" in launch.console_output(name)


# --- how it ends --------------------------------------------------------------------------------------------------

RAW_REBOOT = "python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)'"


@pytest.mark.parametrize(
    "command",
    [
        "shutdown -h now",
        "/sbin/shutdown now",
        "poweroff",
        "halt -p",
        "systemctl poweroff",
        "reboot -f",
        RAW_REBOOT,
    ],
    ids=["shutdown", "by its path", "poweroff", "halt", "systemctl", "reboot", "the system call itself"],
)
def test_going_down_ends_the_instance(launch: Launcher, command: str) -> None:
    name = launch(f"#!/bin/sh\n{command}\nsleep 60\n")
    machine = launch.until(name, "terminated")
    assert machine["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_shutdown_behaviour_stop_stops(launch: Launcher) -> None:
    name = launch("#!/bin/sh\nshutdown -h now\n", InstanceInitiatedShutdownBehavior="stop")
    assert launch.until(name, "stopped")["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_started_machine_does_not_run_its_user_data_again(launch: Launcher) -> None:
    name = launch("#!/bin/sh\necho ran\nshutdown -h now\n", InstanceInitiatedShutdownBehavior="stop")
    launch.until(name, "stopped")
    launch.ec2.start_instances(InstanceIds=[name])
    launch.until(name, "running")
    eventually(lambda: launch.cloud.console(name).count(b"finished at") == 2)
    assert launch.cloud.console(name).count(b"\nran\n") == 1


def test_shutdown_returns_at_once(launch: Launcher) -> None:
    assert "still here" in launch.run("shutdown -h now; echo still here")


def test_a_shutdown_in_a_minute_can_be_called_off(launch: Launcher) -> None:
    text = launch.run(
        "shutdown -h +1; until [ -e /run/nologin ]; do :; done; echo planned; shutdown -c\n"
        "while [ -e /run/nologin ]; do :; done; echo called off"
    )
    assert "planned\ncalled off\n" in text


def test_processes_get_sigterm_and_know_that_the_system_stops(launch: Launcher) -> None:
    script = """trap 'echo told; [ -e /run/nologin ] && echo nologin; systemctl is-system-running; exit' TERM
        systemctl is-system-running; shutdown -h now; while :; do sleep 0.05; done"""
    name = launch(f"#!/bin/bash\n{script}\n")
    launch.until(name, "terminated")
    said = re.findall(r"^(running|told|nologin|stopping)$", launch.cloud.console(name).decode(), re.MULTILINE)
    assert said == ["running", "told", "nologin", "stopping"]


def test_the_network_lasts_as_long_as_the_grace(launch: Launcher) -> None:
    script = f"""trap 'curl -sS -o /dev/null -w "code %{{http_code}}\\n" {launch.cloud.url}/reports; exit' TERM
        echo ready; while :; do sleep 0.05; done"""
    name = launch(f"#!/bin/bash\n{script}\n")
    launch.prints(name, "ready")
    launch.ec2.terminate_instances(InstanceIds=[name])
    launch.until(name, "terminated")
    assert "code 403" in launch.cloud.console(name).decode()


def test_terminating_by_api_is_the_users_shutdown(launch: Launcher) -> None:
    name = launch("#!/bin/bash\ntrap 'echo told' TERM\necho ready\nwhile :; do sleep 0.1; done\n")
    launch.prints(name, "ready")
    answer = launch.ec2.terminate_instances(InstanceIds=[name])["TerminatingInstances"][0]
    assert answer["PreviousState"]["Name"] == "running"
    assert launch.cloud.states()[name] == "shutting-down"
    launch.ec2.terminate_instances(InstanceIds=[name])
    assert launch.until(name, "terminated")["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert "told" in launch.cloud.console(name).decode()
    launch.ec2.terminate_instances(InstanceIds=[name])
    assert launch.cloud.states()[name] == "terminated"


def test_stopping_by_api_stops(launch: Launcher) -> None:
    name = launch("#!/bin/sh\nsleep 60\n")
    launch.until(name, "running")
    launch.ec2.stop_instances(InstanceIds=[name])
    assert launch.until(name, "stopped")["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_a_machine_terminated_while_pending_ends(launch: Launcher) -> None:
    name = launch("#!/bin/sh\nsleep 60\n")
    launch.ec2.terminate_instances(InstanceIds=[name])
    assert launch.until(name, "terminated")


def test_a_sandbox_killed_from_outside_is_a_failed_host(launch: Launcher) -> None:
    before = set(launch.cloud.sandbox_pids())
    name = launch("#!/bin/sh\nsleep 60\n")
    launch.until(name, "running")
    (pid,) = set(launch.cloud.sandbox_pids()) - before
    os.kill(pid, 9)
    assert launch.until(name, "terminated")["StateReason"]["Code"] == "Server.InternalError"


def test_a_staged_spot_reclaim_gives_notice_and_takes_the_machine(launch: Launcher) -> None:
    ask = "curl -sS http://169.254.169.254/latest/meta-data/spot/instance-action"
    name = launch(f"#!/bin/sh\n{ask} | head -c 9; echo; until {ask} -f; do sleep 0.05; done; sleep 60\n")
    launch.until(name, "running")
    launch.cloud.reclaim(name, notice=0.5)
    launch.prints(name, '"action": "terminate"')
    assert launch.until(name, "terminated")["StateReason"]["Code"] == "Server.SpotInstanceTermination"


# --- choosing a sandbox -------------------------------------------------------------------------------------------


def test_a_way_that_does_not_exist_is_refused_in_words() -> None:
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        choose("plain")


def test_no_way_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(
        SandboxUnavailable, match=r"(?s)bubblewrap: `bwrap` is not installed.*unshare: .*apt-get install"
    ):
        choose()


@pytest.mark.skipif(probe(Unshare()) is not None, reason="util-linux's unshare does not work on this machine")
def test_unshare_is_as_good(cloud: LocalCloud) -> None:
    cloud.stop()
    try:
        with LocalCloud(sandbox="unshare") as other:
            launch = launcher(other)
            for test in (
                test_the_environment_is_cloud_inits,
                test_the_hosts_files_cannot_be_written,
                test_personal_folders_are_empty,
                test_covers_cannot_be_lifted,
                test_the_dangerous_files_of_proc_are_closed,
                test_nothing_but_the_endpoint_is_reached,
                test_guests_do_not_see_other_processes,
                test_stopping_by_api_stops,
            ):
                test(launch)
            test_going_down_ends_the_instance(launch, RAW_REBOOT)
    finally:
        cloud.start()

"""What is left on a builder's disk under a real systemd and a real cloud-init: nothing of the launch."""

from __future__ import annotations

import re
import shlex

import pytest

from airflow_transient.core.ec2.bootscript import guest, without_comments
from tests.cloud_init.machines import Ended, Job

pytestmark = [pytest.mark.cloud_init, pytest.mark.slow, pytest.mark.timeout(300)]

#: systemd runs it when all services have ended, a moment before the power goes: what it sees is what an image holds.
LAST = """cat >/usr/lib/systemd/system-shutdown/tell <<'END'
#!/bin/sh
exec >/dev/console 2>&1
echo "LEFT id=[$(cat /etc/machine-id)]"
find /var/lib/cloud /var/lib/transient /var/log /root /etc/systemd -type f | sed 's/^/LEFT /'
END
chmod +x /usr/lib/systemd/system-shutdown/tell
"""


def as_builder(script: str) -> bytes:
    assert "\nCLEAN=''\n" in script
    program = shlex.quote(without_comments(guest("clean.sh")))
    return script.replace("\nCLEAN=''\n", f"\nCLEAN={program}\n", 1).encode()


def bake(name: str, ends: str) -> Job:
    leaves = "echo hello >/root/tool; mkdir -p /root/.ssh; echo key >/root/.ssh/authorized_keys"
    return Job(name, {"command": f"{LAST}\n{leaves}\n{ends}"}, user_data=as_builder, bound=90.0)


def left(machine: Ended) -> list[str]:
    return re.findall(r"LEFT (\S+)", machine.console.replace("\r", ""))


@pytest.mark.parametrize(
    "machine", [bake("baked", "true"), bake("baked by shutdown", "shutdown -h now")], ids=str, indirect=True
)
def test_nothing_of_the_launch_is_left_on_a_builder(machine: Ended) -> None:
    assert machine.receipt
    assert (machine.receipt.exit_code, machine.receipt.cause) == (0, "exit")
    found = left(machine)
    assert "/root/tool" in found
    assert "/root/.ssh/authorized_keys" not in found
    assert found[0] in ("id=[]", "id=[uninitialized]")
    ours = [path for path in found if "transient" in path]
    # What cloud-init still writes when it is ended itself is of a machine with another id, and none of its children's.
    scripts = [path for path in found if "/scripts/" in path or "user-data" in path or path.endswith("/instance-id")]
    assert (ours, scripts) == ([], [])


@pytest.mark.parametrize("machine", [bake("not baked", "exit 3")], ids=str, indirect=True)
def test_a_builder_that_failed_is_left_as_it_is(machine: Ended) -> None:
    assert "/var/lib/transient/job" in left(machine)

"""What one machine boots in: process 1 of namespaces of its own, over a fresh layer on the shared root.

Law: everything it makes (mounts, network, processes, what the machine writes) lies in namespaces that end with it,
and it ends with its host: the host's end of a pipe closed means kill. Only its control groups outlive it; the host
removes those.

It is told what to do as JSON: see `Plan`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from airflow_transient.localcloud.agent import raise_network

#: How nspawn with --keep-unit leaves a reboot to whoever started it.
REBOOTED = 133


@dataclass(frozen=True)
class Plan:
    """`root`: the Debian tree, never written to. `room`: an empty folder to work in. `orders`: the pipe's number.

    `relays`: address, port, and the host's socket file it leads to. `files`: what is laid over the root.
    `groups`: the control groups to enter, by their cgroup.procs.
    """

    root: str
    room: str
    orders: int
    relays: list[tuple[str, int, str]]
    files: dict[str, str]
    groups: list[str]


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    for group in plan.groups:
        Path(group).write_text("0")
    raise_network(plan.relays)
    tree = lay_over(Path(plan.room), plan)
    while (code := attend(subprocess.Popen(boots(tree)), plan.orders)) == REBOOTED:
        continue
    sys.exit(code)


def lay_over(room: Path, plan: Plan) -> Path:
    """In memory, so that nothing is left on any disk and no shutdown waits for one."""
    # nspawn keeps locks and mount points of its own on the host.
    Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
    mount("tmpfs", "tmpfs", Path("/run/systemd/nspawn"), "mode=755")
    mount("tmpfs", "tmpfs", room, "size=1g,mode=755")
    upper, work, tree = (room / name for name in ("upper", "work", "tree"))
    for folder in (upper, work, tree):
        folder.mkdir()
    for path, text in plan.files.items():
        file = upper / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    mount("overlay", "overlay", tree, f"lowerdir={plan.root},upperdir={upper},workdir={work}")
    return tree


def mount(kind: str, source: str, target: Path, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, source, str(target)], check=True)


def boots(tree: Path) -> list[str]:
    """Without a register (machined is not everywhere) and in the control groups we stand in."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--kill-signal=SIGRTMIN+4",
        "--machine=ip-10-0-0-7",
        "--hostname=ip-10-0-0-7",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        f"--directory={tree}",
    ]


def attend(machine: subprocess.Popen[bytes], orders: int) -> int:
    """Until the machine is off; "off" presses its power button, a closed pipe pulls its plug."""
    while (code := machine.poll()) is None:
        if not select.select([orders], [], [], 0.05)[0]:
            continue
        if not os.read(orders, 100):
            os._exit(1)  # process 1 gone: the kernel ends all of its processes, and with them the mounts
        machine.terminate()
    return code


if __name__ == "__main__":
    main()

"""The ways to run a guest apart from its host, best first, and the choice among them.

Law: a guest has its own process, mount, user, network, host name and IPC namespaces. In there reboot(2) is
the kernel's to virtualise: it ends that sandbox and can reach nothing else. No way that works is an error,
never a reason to run user data without one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from airflow_transient.localcloud import mounts as fs
from airflow_transient.localcloud.errors import SandboxUnavailable

# What root may do inside, by name and number; all of it counts in the guest's own namespaces only.
CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_BOOT": 22,
}
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
INSTALL = """To run jobs here, install one of them:
  Debian, Ubuntu:  apt-get install bubblewrap
  Fedora, Amazon:  dnf install bubblewrap
On Ubuntu 24.04 AppArmor may refuse user namespaces to ordinary users:
  sysctl kernel.apparmor_restrict_unprivileged_userns=0"""


class Sandbox(Protocol):
    """One way: how the command line looks that runs a command in there as process 1."""

    @property
    def name(self) -> str: ...

    def command(self, mounts: Sequence[fs.Mount], hostname: str, root: Path, inside: Sequence[str]) -> list[str]: ...


@dataclass(frozen=True)
class Bubblewrap:
    name: str = "bubblewrap"

    def command(self, mounts: Sequence[fs.Mount], hostname: str, root: Path, inside: Sequence[str]) -> list[str]:
        line = [
            "bwrap",
            "--unshare-all",
            "--unshare-user",
            "--as-pid-1",
            "--die-with-parent",
            "--new-session",
        ]
        line += ["--uid", "0", "--gid", "0", "--hostname", hostname, "--ro-bind", "/", "/"]
        # Started by root, bubblewrap keeps everything unless told: a guest could unmount what covers /root.
        line += ["--cap-drop", "ALL"]
        line += [word for name in CAPABILITIES for word in ("--cap-add", name)]
        line += [word for mount in mounts for word in self._words(mount)]
        return [*line, "--chdir", "/", "--", *inside]

    def _words(self, mount: fs.Mount) -> list[str]:
        if mount.kind == "tmpfs":
            return ["--size", str(mount.size), "--tmpfs", mount.target]
        if mount.kind in ("dev", "proc"):
            return [f"--{mount.kind}", mount.target]
        return ["--ro-bind" if mount.kind == "ro" else "--bind", mount.source, mount.target]


@dataclass(frozen=True)
class Unshare:
    """util-linux's unshare makes the namespaces, our rootfs.py makes the files."""

    name: str = "unshare"

    def command(self, mounts: Sequence[fs.Mount], hostname: str, root: Path, inside: Sequence[str]) -> list[str]:
        plan = {
            "root": str(root),
            "hostname": hostname,
            "keep": list(CAPABILITIES.values()),
            "mounts": [[mount.kind, mount.source, mount.target, mount.size] for mount in mounts],
        }
        line = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount", "--net"]
        line += [
            "--uts",
            "--ipc",
            _host_python(),
            "-I",
            "-S",
            "-B",
            str(Path(__file__).with_name("rootfs.py")),
        ]
        return [*line, json.dumps(plan), *inside]


def _host_python() -> str:
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


WAYS: dict[str, Sandbox] = {"bubblewrap": Bubblewrap(), "unshare": Unshare()}
NEEDS = {"bubblewrap": "bwrap", "unshare": "unshare"}
UNMADE = {
    "podman": "podman is not supported: it needs an image, and it could not be tested",
    "plain": "plain (no sandbox) is not supported: `/sbin/shutdown` in a job would switch off this machine",
}


@dataclass(frozen=True)
class Choice:
    sandbox: Sandbox
    why: str


def choose(wanted: str = "auto") -> Choice:
    """The sandbox asked for, or the best that really works here; each is tried by running `true` in it."""
    if wanted in UNMADE:
        raise SandboxUnavailable(f"{UNMADE[wanted]}. Known: auto, {', '.join(WAYS)}.\n{INSTALL}")
    if wanted != "auto" and wanted not in WAYS:
        raise SandboxUnavailable(f"No sandbox is called {wanted!r}. Known: auto, {', '.join(WAYS)}.")
    failures: list[str] = []
    for name in WAYS if wanted == "auto" else [wanted]:
        problem = probe(WAYS[name])
        if problem is None:
            return Choice(WAYS[name], "; ".join(["it works here", *failures]))
        failures.append(f"{name}: {problem}")
    tried = "\n".join(f"  {failure}" for failure in failures)
    raise SandboxUnavailable(f"No sandbox works on this machine. Tried:\n{tried}\n{INSTALL}")


def probe(sandbox: Sandbox) -> str | None:
    """None when `true` ran in it; else why it did not."""
    if not sys.platform.startswith("linux"):
        return f"needs Linux, this is {sys.platform}"
    if shutil.which(NEEDS[sandbox.name]) is None:
        return f"`{NEEDS[sandbox.name]}` is not installed"
    with tempfile.TemporaryDirectory(prefix="localcloud-probe-") as root:
        mounts = fs.guest_mounts([], [], os.environ.get("HOME"))
        line = sandbox.command(mounts, "probe", Path(root), ["/bin/sh", "-c", "true"])
        try:
            ran = subprocess.run(line, capture_output=True, text=True, timeout=10, env=ENVIRONMENT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return None if ran.returncode == 0 else (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]

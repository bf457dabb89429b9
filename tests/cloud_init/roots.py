"""The Debian root that machines boot from: made once by mmdebstrap, kept in a cache, never written to again."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
# What a cloud image has beside the base system. systemd-sysv is `shutdown`; procps is `ps`, for the tests' jobs.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "cloud-init", "curl", "python3", "procps")
UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
INSTALL = "apt-get install mmdebstrap systemd-container"


def why_not() -> str | None:
    """A plain sentence where real cloud-init cannot be booted; None where it can."""
    if not sys.platform.startswith("linux"):
        return f"real cloud-init boots in systemd-nspawn, which needs Linux: this is {sys.platform}"
    if os.geteuid() != 0:
        return "real cloud-init boots in systemd-nspawn, which needs root: run the tests as root"
    needed = ("mmdebstrap", "systemd-nspawn", "unshare")
    if missing := [name for name in needed if shutil.which(name) is None]:
        return f"real cloud-init needs {' and '.join(missing)}: {INSTALL}"
    return None


def debian_root() -> Path:
    """Half a minute the first time; with another list of packages it is another root."""
    recipe = " ".join((SUITE, *PACKAGES, *UNREAD))
    root = cache() / f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with alone(root.with_suffix(".lock")):
        if not root.exists():
            build(root)
    return root


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(base or "/var/cache") / "airflow-transient-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(root: Path) -> None:
    """Under another name until it is whole: a run that was broken off leaves nothing that looks like a root."""
    for left in root.parent.glob(f"{root.name}.part-*"):
        shutil.rmtree(left)
    part = Path(tempfile.mkdtemp(prefix=f"{root.name}.part-", dir=root.parent))
    line = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    line += [f"--dpkgopt=path-exclude={path}" for path in UNREAD]
    made = subprocess.run([*line, SUITE, str(part)], capture_output=True, text=True, check=False)
    if made.returncode:
        shutil.rmtree(part, ignore_errors=True)
        raise RuntimeError(f"mmdebstrap could not make a Debian root: {made.stderr[-2000:]}")
    part.chmod(0o755)
    part.rename(root)

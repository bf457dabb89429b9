"""Change the root to a read-only copy of the host's, with the given mounts over it; then become the command.

Run inside the namespaces that util-linux `unshare` made; bubblewrap does the same by itself.
Standard library only, and syntax that Python 3.7 reads. Arguments: the plan as JSON, then the command.

Law: every mount of the host is read-only here, and nobody inside keeps the capability to change that.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from typing import Any, Dict, List

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC = 2, 4, 4096, 16384
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
SYS_MOUNT_SETATTR = 442  # the same number on every architecture; Linux 5.12
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s%r: %s" % (name, arguments, os.strerror(number)))


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


def _read_only(target: str) -> None:
    """With everything mounted below it; mount(8) learned this only in util-linux 2.39."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    if _libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, attributes, 32) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "mount_setattr(%s): %s" % (target, os.strerror(number)))


def _place(source: str, target: str) -> None:
    """Somewhere to mount on: made when missing, which works in the tmpfs mounts only."""
    if os.path.lexists(target):
        return
    if os.path.isdir(source):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "w").close()


def _bind(source: str, target: str, read_only: bool) -> None:
    _place(source, target)
    _mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        _read_only(target)


def _devices(target: str) -> None:
    _mount("tmpfs", target, "tmpfs", MS_NOSUID, "mode=755,size=65536k")
    for name in DEVICES:
        _bind("/dev/" + name, target + "/" + name, read_only=False)
    for name in ("shm", "pts"):
        os.mkdir(target + "/" + name)
    _mount("devpts", target + "/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    for name, link in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        os.symlink(link, target + "/" + name)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.symlink("/proc/self/fd/%d" % number, target + "/" + name)


def enter(plan: Dict[str, Any]) -> None:
    root = plan["root"]
    _mount("/", root, flags=MS_BIND | MS_REC)
    _read_only(root)
    for kind, source, target, size in plan["mounts"]:
        if kind == "tmpfs":
            _mount("tmpfs", root + target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=%d" % size)
        elif kind == "dev":
            _devices(root + target)
        elif kind == "proc":
            _mount("proc", root + target, "proc", MS_NOSUID | MS_NODEV)
        else:
            _bind(source, root + target, read_only=kind == "ro")
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")
    socket.sethostname(plan["hostname"])


def give_up_capabilities(keep: List[int]) -> None:
    for number in range(64):
        if number not in keep:
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main() -> None:
    plan = json.loads(sys.argv[1])
    enter(plan)
    give_up_capabilities(plan["keep"])
    os.execve(sys.argv[2], sys.argv[2:], {"PATH": os.environ["PATH"]})


if __name__ == "__main__":
    main()

"""A guest's commands: the host's, with the power switches replaced, some hidden on request, and always a python3.

A hidden command is truly not found: its folder is shown as a folder of links that leaves it out. Covering the file
would not do, because bash's `command -v` answers with files that cannot be executed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_transient.localcloud.mounts import ROOM, Mount, read_only

SWITCHES = ("shutdown", "poweroff", "halt", "reboot", "systemctl")
PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# A FIFO to process 1: `shutdown` answers at once and the machine goes down a moment later, as in reality.
SHIM = f"""#!/bin/sh
case ${{0##*/}} in
  systemctl)
    case " $* " in
      *" is-system-running "*)
        if [ -e {ROOM}/stopping ]; then echo stopping; exit 1; fi
        echo running
        exit 0 ;;
      *" poweroff "* | *" halt "* | *" reboot "* | *" kexec "*) ;;
      *)
        echo "System has not been booted with systemd as init system (PID 1). Can't operate." >&2
        exit 1 ;;
    esac ;;
esac
printf '%s\\n' "${{0##*/}} $*" >{ROOM}/power
"""
# As cloud-init 22.4 does it. Guests share their host's /etc, so nobody's machine-id is written.
CLOUD_INIT = """#!/bin/sh
if [ "${1-}" != clean ]; then
  echo "localcloud: of cloud-init there is only clean [--logs] [--machine-id] [--seed]" >&2
  exit 2
fi
shift
for flag in "$@"; do
  case $flag in
    --logs | -l) rm -f /var/log/cloud-init.log /var/log/cloud-init-output.log ;;
    --machine-id | --seed | -s) ;;
    *) echo "cloud-init: error: unrecognized arguments: $flag" >&2; exit 2 ;;
  esac
done
for path in /var/lib/cloud/*; do
  [ "$path" = /var/lib/cloud/seed ] || rm -rf "$path"
done
"""
# Before the host's own in a guest's PATH, and all but always empty.
OWN_PLACE = "/usr/local/sbin"


@dataclass(frozen=True)
class Toolbox:
    """What to mount for the commands, and the interpreter that runs process 1 (a path inside the guest)."""

    mounts: tuple[Mount, ...]
    python: str


def furnish(folder: Path, hide: Collection[str] = ()) -> Toolbox:
    """Prepare the guests' commands in folder, once for all guests."""
    shim = folder / "power-switch"
    shim.write_text(SHIM)
    shim.chmod(0o755)
    cloud_init = folder / "cloud-init"
    cloud_init.write_text(CLOUD_INIT)
    cloud_init.chmod(0o755)
    mounts, python = _python()
    mounts.append(read_only(cloud_init, f"{ROOM}/cloud-init"))
    real = _switch_files()
    if not hide and real is not None and python == "/usr/bin/python3" and os.path.isdir(OWN_PLACE):
        return Toolbox((*mounts, *_own_place(folder), *(read_only(shim, path) for path in sorted(real))), python)
    mounts += _farms(folder, hide, python)
    own = python == "/usr/bin/python3"
    return Toolbox(
        (*mounts, read_only(shim, f"{ROOM}/power-switch")),
        _shown_from("/usr/bin") + "/python3" if own else python,
    )


def _own_place(folder: Path) -> list[Mount]:
    """A place for a command that the host does not have, beside what the host has there."""
    shown, host = folder / "own", f"{ROOM}/host-own"
    _link_farm(Path(OWN_PLACE), shown, host, {"cloud-init"}, {"cloud-init": f"{ROOM}/cloud-init"})
    return [read_only(OWN_PLACE, host), read_only(shown, OWN_PLACE)]


def _folders() -> list[str]:
    return sorted({os.path.realpath(place) for place in PLACES if os.path.isdir(place)})


def _shown_from(place: str) -> str:
    """Where a folder of links finds the real folder it stands for."""
    return f"{ROOM}/host/{_folders().index(place)}"


def _farms(folder: Path, hide: Collection[str], python: str) -> list[Mount]:
    """Every folder of commands as links: without what is hidden, with the switches and a python3."""
    mounts = []
    extra = dict.fromkeys(SWITCHES, f"{ROOM}/power-switch")
    if "cloud-init" not in hide:
        extra["cloud-init"] = f"{ROOM}/cloud-init"
    if python != "/usr/bin/python3" and "python3" not in hide:
        extra["python3"] = python
    for number, place in enumerate(_folders()):
        shown = folder / f"bin{number}"
        system = not place.startswith("/usr/local")
        _link_farm(Path(place), shown, _shown_from(place), {*hide, *SWITCHES, *extra}, extra if system else {})
        mounts += [read_only(place, _shown_from(place)), read_only(shown, place)]
    return mounts


def _python() -> tuple[list[Mount], str]:
    """The guest's own python3 when there is one; else ours, shown where it stands."""
    if os.path.exists("/usr/bin/python3"):
        return [], "/usr/bin/python3"
    return [read_only(sys.base_prefix)], os.path.realpath(sys.executable)


def _switch_files() -> set[str] | None:
    """The files to cover, or None when one is missing or is also something else (busybox)."""
    real = set()
    for name in SWITCHES:
        found = shutil.which(name, path=os.pathsep.join(PLACES))
        if found is None or os.path.basename(os.path.realpath(found)) not in SWITCHES:
            return None
        real.add(os.path.realpath(found))
    return real


def _link_farm(place: Path, shown: Path, host: str, without: Collection[str], extra: Mapping[str, str]) -> None:
    shown.mkdir()
    links = dict(extra)
    for entry in os.scandir(place):
        if entry.name not in without:
            # A link stays as it is: it is as deep as it was, and what it names may be hidden.
            links[entry.name] = os.readlink(entry.path) if entry.is_symlink() else f"{host}/{entry.name}"
    for name, target in links.items():
        os.symlink(target, shown / name)

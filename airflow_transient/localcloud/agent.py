"""Process 1 of a guest: raise the network, run the user data, end the machine when told to.

Standard library only, and syntax that Python 3.7 reads: it runs on whatever python3 the guest's files hold.
It talks to its host by pipes: orders on stdin, news on stdout, everything printed on the console's FIFO.

Law: the end of process 1 is the end of the machine. Before it there is what an OS shutdown gives: /run/nologin
appears, everybody gets SIGTERM and a short grace with the network still up, then SIGKILL.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import resource
import runpy
import select
import signal
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

ROOM = "/run/localcloud"
NETWORK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox_network.py")
NOLOGIN = "/run/nologin"
SCRIPT = "/var/lib/cloud/instance/scripts/part-001"
GRACE = 2.0
# `shutdown -h now` returns at once, and the machine goes down a moment later.
MOMENT = 0.15
# logind forbids logins from five minutes before a scheduled shutdown on: shutdown(8).
NOLOGIN_BEFORE = 300.0
# As genuine cloud-init under systemd gives it (measured): no HOME, no USER, no SHELL.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
FOLDERS = (
    "/var/log",
    "/var/tmp",
    "/var/lib/cloud/data",
    "/var/cache",
    "/var/spool",
    "/run/lock",
    "/run/localcloud",
)
# Killed by reboot(2) inside, or this way out: the host reads it as "the guest shut itself down".
OFF = 0


def raise_network(relays: List[Tuple[str, int, str]]) -> None:
    runpy.run_path(NETWORK)["raise_network"](relays)


# --- what the guest may ask of its machine -----------------------------------------------------------------------


def delay_of(words: List[str]) -> Optional[float]:
    """Seconds until the power goes, as asked by `shutdown`, `poweroff`, ... ; -1 cancels; None asks for nothing."""
    command = os.path.basename(words[0]) if words else ""
    flags = [word for word in words[1:] if word.startswith("-")]
    plain = [word for word in words[1:] if not word.startswith("-")]
    if command == "systemctl":
        return 0.0 if plain and plain[0] in ("poweroff", "halt", "reboot", "kexec") else None
    if command != "shutdown":
        return 0.0
    if any(re.match(r"^-[a-zA-Z]*c", flag) for flag in flags):
        return -1.0
    return _shutdown_time(plain[0] if plain else "+1")


def _shutdown_time(when: str) -> float:
    if when == "now":
        return 0.0
    if re.match(r"^\+?\d+$", when):
        return 60.0 * int(when.lstrip("+"))
    hours, minutes = (int(part) for part in when.split(":"))
    now = time.localtime()
    return float(((hours - now.tm_hour) * 3600 + (minutes - now.tm_min) * 60 - now.tm_sec) % 86400)


class Power:
    """When the machine goes down: at once, later, or not at all."""

    def __init__(self) -> None:
        self.at: Optional[float] = None
        self.forbidden = False

    def ask(self, line: str, now: float) -> None:
        try:
            delay = delay_of(line.split())
        except ValueError:
            return
        if delay is not None:
            self.at = None if delay < 0 else now + max(delay, MOMENT)

    def due(self, now: float) -> bool:
        forbidden = self.at is not None and now >= self.at - NOLOGIN_BEFORE
        if forbidden != self.forbidden:
            touch(NOLOGIN) if forbidden else os.unlink(NOLOGIN)
            self.forbidden = forbidden
        return self.at is not None and now >= self.at


# --- the machine's life ------------------------------------------------------------------------------------------


class Machine:
    def __init__(self, config: Dict[str, Any]) -> None:
        self.config = config
        self.power = Power()
        self.script = 0
        self.console = os.open("/dev/console", os.O_WRONLY | os.O_CLOEXEC)

    def say(self, text: str) -> None:
        os.write(self.console, (text + "\n").encode())

    def boot(self) -> None:
        os.chdir("/")
        os.umask(0o022)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.path.exists(ROOM + "/base"):
            runpy.run_path(ROOM + "/guest_disk.py")["restore"](ROOM + "/base")
        self._lay_out()
        raise_network(self.config["relays"])
        tell("up")
        if self.config["trouble"] == "never-boots":
            return
        self.say("Cloud-init v. 22.2.2 running 'modules:final' at %s. (localcloud)" % now())
        if self.config["words"]:
            self.say(self.config["words"])
        if os.path.exists(ROOM + "/part-001") or per_boot():
            self._run_scripts()
        else:
            self._finished()

    def _lay_out(self) -> None:
        for folder in FOLDERS:
            os.makedirs(folder, exist_ok=True)
        os.chmod("/var/tmp", 0o1777)  # noqa: S103  (sticky and for all, as everywhere)
        here = "/var/lib/cloud/instances/" + self.config["id"]
        os.makedirs(here + "/scripts", exist_ok=True)
        if os.path.lexists("/var/lib/cloud/instance"):  # another machine's, on the disk that this one was made from
            os.unlink("/var/lib/cloud/instance")
        os.symlink(here, "/var/lib/cloud/instance")
        with open("/var/lib/cloud/data/instance-id", "w") as file:
            file.write(self.config["id"] + "\n")

    def _run_scripts(self) -> None:
        """Those that an earlier life of the disk has left for every boot, then the user data."""
        if os.path.exists(ROOM + "/part-001"):
            with open(ROOM + "/part-001", "rb") as source, open(SCRIPT, "wb") as copy:
                copy.write(source.read())
            os.chmod(SCRIPT, 0o700)
        if self.config["trouble"]:
            runpy.run_path(ROOM + "/troubles.py")["start"](self.config["trouble"], self.say)
        pid = os.fork()
        if pid:
            self.script = pid
            return
        try:
            self._become_script()
        except BaseException as problem:  # whatever it is, the forked copy of process 1 must not live on
            self.say("util.py[WARNING]: Failed to run %s: %s" % (SCRIPT, problem))
        os._exit(126)

    def _become_script(self) -> None:
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(self.console, 1)
        os.dup2(self.console, 2)
        os.closerange(3, 1024)
        environment = dict(ENVIRONMENT, **self.config["environment"])
        for path in per_boot():
            os.spawnve(os.P_WAIT, path, [path], environment)
        if not os.path.exists(ROOM + "/part-001"):
            os._exit(0)
        os.execve(SCRIPT, [SCRIPT], environment)

    def _finished(self, status: int = 0) -> None:
        if status:
            scripts = os.path.dirname(SCRIPT)
            self.say("cc_scripts_user.py[WARNING]: Failed to run module scripts-user (scripts in %s)" % scripts)
        with contextlib.suppress(OSError), open("/var/lib/cloud/instance/boot-finished", "w") as file:
            file.write(now() + "\n")  # which a full disk does not take
        self.say("Cloud-init v. 22.2.2 finished at %s. (localcloud)" % now())

    def live(self) -> bool:
        """Until the guest shuts itself down (True), or the host says stop (False), or the host is gone."""
        # Opened for both ways, so that the shim leaving does not read as an end of file.
        power = os.open(ROOM + "/power", os.O_RDWR | os.O_CLOEXEC)
        wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self.reap()
        while not self.power.due(time.monotonic()):
            ready, _, _ = select.select([0, power, wake], [], [], self._patience())
            if wake in ready:
                os.read(wake, 4096)
                self.reap()
            if 0 in ready:
                if not os.read(0, 4096):
                    os._exit(1)  # the host is gone: leave nothing behind
                return False
            if power in ready:
                for line in os.read(power, 4096).decode("utf-8", "replace").splitlines():
                    self.power.ask(line, time.monotonic())
        return True

    def _patience(self) -> Optional[float]:
        return None if self.power.at is None else max(0.0, min(1.0, self.power.at - time.monotonic()))

    def reap(self) -> bool:
        """Bury the dead; False when nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self.script:
                self.script = 0
                self._finished(status)

    def end(self) -> None:
        touch(NOLOGIN)
        touch(ROOM + "/stopping")
        _everybody(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.reap() and time.monotonic() < deadline:
            time.sleep(0.02)
        _everybody(signal.SIGKILL)
        if self.config["saves"]:
            runpy.run_path(ROOM + "/guest_disk.py")["save"](ROOM + "/disk")
        self.say("[%12.6f] reboot: Power down" % time.monotonic())
        tell("off")
        os._exit(OFF)


def _everybody(number: int) -> None:
    if os.getpid() != 1:
        raise RuntimeError("signals to everybody are for process 1 of a sandbox only")
    try:
        os.kill(-1, number)
    except OSError as problem:
        if problem.errno != errno.ESRCH:
            raise


def per_boot() -> List[str]:
    """As cloud-init's scripts-per-boot finds them, on the machine's first boot too."""
    return [path for path in sorted(glob.glob("/var/lib/cloud/scripts/per-boot/*")) if os.access(path, os.X_OK)]


def now() -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())


def touch(path: str) -> None:
    open(path, "w").close()


def tell(news: str) -> None:
    try:
        os.write(1, (news + "\n").encode())
    except OSError:
        os._exit(1)


def main() -> None:
    config = json.loads(sys.argv[1])
    machine = Machine(config)
    machine.boot()
    if machine.live():
        tell("going")
    machine.end()


if __name__ == "__main__":
    main()

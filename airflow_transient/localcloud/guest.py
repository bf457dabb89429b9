"""One guest: a sandbox process, its console, its metadata service, and the news it sends.

Law: the thread that starts a sandbox lives as long as it, because Linux ties "die with your parent" to the
thread that forked; and everything a guest says is read by that thread, in the order it was said.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from airflow_transient.localcloud import imds
from airflow_transient.localcloud import mounts as fs
from airflow_transient.localcloud.console import Console
from airflow_transient.localcloud.images import Saved
from airflow_transient.localcloud.runner import Boot, End, Host, Watcher
from airflow_transient.localcloud.sandbox import ENVIRONMENT

# Process 1 gives two seconds' grace; a guest that takes longer than this is killed.
PATIENCE = 5.0
# How a sandbox ends when reboot(2) is called inside: process 1 dies of SIGINT (power off) or SIGHUP.
REBOOTED = {130, 129, -2, -1}
AGENT = Path(__file__).with_name("agent.py")
NETWORK = Path(__file__).with_name("sandbox_network.py")
TROUBLES = Path(__file__).with_name("troubles.py")
DISK = Path(__file__).with_name("guest_disk.py")
# What of a machine with a full disk is in memory all the same.
SMALL = {"/var": fs.MiB, "/tmp": fs.MiB}


class Guest(threading.Thread):
    def __init__(
        self, host: Host, boot: Boot, watcher: Watcher, console: Console, forget: Callable[[Guest], None]
    ) -> None:
        super().__init__(name=f"guest-{boot.name}", daemon=True)
        self.host, self.boot, self.room = host, boot, host.folder / boot.name
        self._watcher, self._console, self._forget = watcher, console, forget
        self._asked = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: list[str] = []
        self._deadline = float("inf")
        self._disk = -1
        self._saved: Saved | None = None

    @property
    def key(self) -> str:
        return self.boot.name

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self) -> None:
        """Ask for an orderly end; a guest that does not come to it is killed."""
        if not self._asked.is_set():
            self._deadline = time.monotonic() + PATIENCE
            self._asked.set()
            self._order()

    def kill(self) -> None:
        self._deadline = 0.0  # for a sandbox that is just being started
        self._asked.set()
        process = self._process
        if process is not None and process.poll() is None:
            end_sandbox(process)

    def _order(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):
                os.write(process.stdin.fileno(), b"stop\n")

    def run(self) -> None:
        end = End.CRASHED
        try:
            end = End.ASKED if self._asked.wait(self.host.boot_delay) else self._live()
        except OSError as error:
            self._console.write(f"localcloud: the sandbox did not start: {error}\n".encode())
        finally:
            self._forget(self)
            self._watcher.down(self.boot.name, end)

    def _live(self) -> End:
        with ExitStack() as stack:
            console, metadata = self._prepare(stack)
            process = self._start(console)
            stack.callback(bury, process)
            self._process = process
            if self._asked.is_set():  # asked while it was being started
                self._order()
            self._listen(process, console, metadata)
            code = process.wait()
            self._drain(console)
            self._keep_disk()
        if "going" in self._said or code in REBOOTED:
            return End.ITSELF
        return End.ASKED if self._asked.is_set() else End.CRASHED

    def _prepare(self, stack: ExitStack) -> tuple[int, socket.socket]:
        """The guest's room on the host: console, power switch, metadata door, script."""
        self.room.mkdir()
        (self.room / "root").mkdir()
        for pipe in ("console", "power", *(("disk",) if self.boot.saves else ())):
            os.mkfifo(self.room / pipe, 0o600)
        if self.boot.script is not None:
            (self.room / "part-001").write_bytes(self.boot.script)
        # Both ways, so that no writer leaving reads as an end of file.
        console = os.open(self.room / "console", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, console)
        self._open_disk(stack)
        metadata = stack.enter_context(socket.socket(socket.AF_UNIX))
        metadata.bind(str(self.room / "metadata"))
        metadata.listen(64)
        return console, metadata

    def _open_disk(self, stack: ExitStack) -> None:
        if self.boot.saves is None:
            return
        self._disk = os.open(self.room / "disk", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, self._disk)
        self._saved = Saved(self.boot.saves)
        stack.callback(self._saved.close, whole=False)

    def _drain_disk(self) -> None:
        with suppress(BlockingIOError):
            while self._saved is not None:
                self._saved.write(os.read(self._disk, 1 << 20))

    def _keep_disk(self) -> None:
        if self._saved is not None:
            self._drain_disk()
            self._saved.close(whole="off" in self._said)

    def _mounts(self) -> list[fs.Mount]:
        shown = [
            fs.read_only(AGENT, f"{fs.ROOM}/agent.py"),
            fs.read_only(NETWORK, f"{fs.ROOM}/sandbox_network.py"),
            fs.read_only(self.host.door, f"{fs.ROOM}/endpoint"),
        ]
        shown.append(fs.Mount("rw", "/dev/console", str(self.room / "console")))
        shown.append(fs.Mount("rw", f"{fs.ROOM}/power", str(self.room / "power")))
        if self.boot.saves:
            shown.append(fs.Mount("rw", f"{fs.ROOM}/disk", str(self.room / "disk")))
        if self.boot.base:
            shown.append(fs.read_only(self.boot.base, f"{fs.ROOM}/base"))
        if self.boot.saves or self.boot.base:
            shown.append(fs.read_only(DISK, f"{fs.ROOM}/guest_disk.py"))
        if self.boot.trouble:
            shown.append(fs.read_only(TROUBLES, f"{fs.ROOM}/troubles.py"))
        for name in ("metadata", "part-001"):
            if (self.room / name).exists():
                shown.append(fs.read_only(self.room / name, f"{fs.ROOM}/{name}"))
        shown += self.host.boto3.mounts if self.host.boto3 else ()
        mounts = fs.guest_mounts([*shown, *self.host.share], self.host.toolbox.mounts, os.environ.get("HOME"))
        return fs.resized(mounts, SMALL) if self.boot.trouble == "disk-full" else mounts

    def _start(self, console: int) -> subprocess.Popen[bytes]:
        config = {
            "id": self.boot.name,
            "words": self.boot.words,
            "trouble": self.boot.trouble,
            "saves": self.boot.saves is not None,
            # No genuine guest has this: it is how a guest's AWS clients find this cloud instead of the real one.
            "environment": {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.host.port}", **self._packages()},
            "relays": [] if self.boot.trouble == "no-network" else self._relays(),
        }
        inside = [self.host.toolbox.python, "-I", "-S", "-B", f"{fs.ROOM}/agent.py", json.dumps(config)]
        line = self.host.sandbox.command(self._mounts(), self._hostname(), self.room / "root", inside)
        return enter(line, console)

    def _packages(self) -> dict[str, str]:
        return {"PYTHONPATH": self.host.boto3.environment["PYTHONPATH"]} if self.host.boto3 else {}

    def _relays(self) -> list[list[str | int]]:
        return [
            ["127.0.0.1", self.host.port, f"{fs.ROOM}/endpoint"],
            [imds.ADDRESS, 80, f"{fs.ROOM}/metadata"],
        ]

    def _hostname(self) -> str:
        return self.boot.metadata().hostname.split(".")[0]

    def _listen(self, process: subprocess.Popen[bytes], console: int, metadata: socket.socket) -> None:
        news = process.stdout.fileno() if process.stdout else -1
        with selectors.DefaultSelector() as ready:
            for source in (news, console, metadata.fileno(), *((self._disk,) if self._saved else ())):
                ready.register(source, selectors.EVENT_READ)
            while True:
                sources = [key.fd for key, _ in ready.select(timeout=0.1 if self._asked.is_set() else 1.0)]
                if not sources and process.poll() is not None:
                    return  # what is left of it ends when our pipe to it closes
                if console in sources:
                    self._drain(console)
                if self._disk in sources:
                    self._drain_disk()
                if metadata.fileno() in sources:
                    imds.serve(metadata.accept()[0], self.boot.metadata)
                if news in sources and not self._hear(news):
                    return
                if time.monotonic() > self._deadline:
                    end_sandbox(process)

    def _drain(self, console: int) -> None:
        with suppress(BlockingIOError):
            for _ in range(64):  # then somebody else gets a turn, however much it prints
                self._console.write(os.read(console, 65536))

    def _hear(self, news: int) -> bool:
        """Pass the news on; False at the end of file, when the sandbox is gone."""
        said = os.read(news, 4096).decode().split()
        self._said += said
        if "up" in said:
            self._watcher.up(self.boot.name)
        if "going" in said:
            self._watcher.going(self.boot.name)
        return bool(said)


def enter(line: list[str], stderr: int) -> subprocess.Popen[bytes]:
    # A session of its own: no way to the terminal the cloud was started from, and no Ctrl-C from it.
    return subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
        bufsize=0,
    )


def bury(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        end_sandbox(process)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def end_sandbox(process: subprocess.Popen[bytes]) -> None:
    """With its group: a sandbox killed while it is made has a child that does not yet die with its parent."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

"""The host's side of a task: its sandbox, and the orders that start and stop them.

Law: the thread that starts a sandbox lives as long as it, as in guest.py. What a container starts or stops for is
decided by ecs_containers.py; what became of it is kept in its Task.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_transient.localcloud import ecs_containers, imds, task_metadata, task_orders
from airflow_transient.localcloud import mounts as fs
from airflow_transient.localcloud.container_python import ContainerPython
from airflow_transient.localcloud.ecs_containers import Ending, Phase
from airflow_transient.localcloud.ecs_tasks import Container, Task
from airflow_transient.localcloud.guest import bury, end_sandbox, enter
from airflow_transient.localcloud.runner import Host
from airflow_transient.localcloud.task_output import Outputs, Sink
from airflow_transient.localcloud.task_troubles import (
    CUT_DOWN,
    HOPELESS,
    NEVER_STARTS,
    NO_COMMAND,
    NO_SANDBOX,
    NOT_STARTED,
    Trouble,
)

AGENT = Path(__file__).with_name("task_agent.py")
NETWORK = Path(__file__).with_name("sandbox_network.py")


@dataclass(frozen=True)
class Around:
    """What every task is given. sink(task, container): who gets its output; secrets(task, container): by variable.

    Both raise LookupError, with words, when what they need is not there. keys(task): its role's credentials.
    """

    host: Host
    python: ContainerPython
    sink: Callable[[Task, Container], Sink]
    secrets: Callable[[Task, Container], Mapping[str, str]]
    keys: Callable[[Task], Mapping[str, str] | None]
    delay: float = 0.0


class TaskRun(threading.Thread):
    def __init__(self, around: Around, task: Task, trouble: Trouble, forget: Callable[[TaskRun], None]) -> None:
        super().__init__(name=f"task-{task.id}", daemon=True)
        self.key, self.room = task.id, around.host.folder / task.id
        self._around, self._task, self._trouble, self._forget = around, task, trouble, forget
        self._asked = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._writing = threading.Lock()
        self._heard = b""
        self._lost = False
        self._outputs = Outputs(self.room)
        self._secrets: dict[str, Mapping[str, str]] = {}
        self._kill_at: dict[str, float] = {}
        self._cut_at = float("inf")

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def wake(self) -> None:
        """The task is to end: see to it."""
        self._asked.set()
        self._order({"do": "echo"})

    def kill(self) -> None:
        """Its host is gone, with everything on it."""
        self._lost = True
        self._asked.set()
        process = self._process
        if process is not None and process.poll() is None:
            end_sandbox(process)

    def run(self) -> None:
        try:
            if self._provision():
                with ExitStack() as stack:
                    self._live(stack)
        except OSError as error:
            self._fail_to_start(f"ResourceInitializationError: {error}")
        finally:
            self._task.over()
            self._forget(self)

    # --- before it runs ---------------------------------------------------------------------------------

    def _provision(self) -> bool:
        trouble = self._trouble
        if trouble.kind == "never-provisions":
            self._asked.wait()
        elif trouble.kind in NEVER_STARTS:
            self._never_start(trouble)
        elif not self._asked.wait(self._around.delay):
            self._task.become("PENDING", "pullStartedAt", "pullStoppedAt")
        return not self._asked.is_set() and self._task.ending is None

    def _never_start(self, trouble: Trouble) -> None:
        if trouble.kind == "cannot-pull":
            self._task.become("PENDING", "pullStartedAt")
        if not self._asked.wait(trouble.seconds):
            self._fail_to_start(NEVER_STARTS[trouble.kind].format(image=self._task.containers[0].words["image"]))
        if trouble.kind == "capacity-gives-up":  # as AWS tells of a task that never had a place
            with self._task.lock:
                self._task.containers.clear()

    def _fail_to_start(self, reason: str) -> None:
        self._task.end(Ending("TaskFailedToStart", reason))

    # --- while it runs ----------------------------------------------------------------------------------

    def _live(self, stack: ExitStack) -> None:
        metadata = self._prepare(stack)
        sinks = self._sinks()
        if self._task.ending is not None:
            return
        for number, (container, sink) in enumerate(zip(self._task.containers, sinks, strict=True)):
            stack.callback(os.close, self._outputs.open(number, container.rule.name, sink))
        process = self._open_sandbox()
        stack.callback(bury, process)
        self._process = process
        if not self._step():
            self._listen(process, metadata)
        end_sandbox(process)
        for output in self._outputs:
            self._outputs.drain(output, last=True)
        if self._task.ending is None and not any(each.ran for each in self._task.states.values()):
            self._fail_to_start(NO_SANDBOX)

    def _sinks(self) -> list[Sink]:
        try:
            self._secrets = {each.rule.name: self._around.secrets(self._task, each) for each in self._task.containers}
            return [self._around.sink(self._task, each) for each in self._task.containers]
        except LookupError as missing:
            self._fail_to_start(str(missing.args[0]))
            return []

    def _prepare(self, stack: ExitStack) -> socket.socket:
        (self.room / "root").mkdir(parents=True)
        self._outputs.make(len(self._task.containers))
        metadata = stack.enter_context(socket.socket(socket.AF_UNIX))
        metadata.bind(str(self.room / "metadata"))
        metadata.listen(64)
        return metadata

    def _open_sandbox(self) -> subprocess.Popen[bytes]:
        host = self._around.host
        shown = [
            fs.read_only(AGENT, f"{fs.ROOM}/task_agent.py"),
            fs.read_only(NETWORK, f"{fs.ROOM}/sandbox_network.py"),
            fs.read_only(host.door, f"{fs.ROOM}/endpoint"),
            fs.read_only(self.room, task_orders.FOLDER),
            *self._around.python.mounts,
        ]
        relays = [
            ["127.0.0.1", host.port, f"{fs.ROOM}/endpoint"],
            [task_metadata.ADDRESS, 80, f"{task_orders.FOLDER}/metadata"],
        ]
        mounts = fs.guest_mounts([*shown, *host.share], host.toolbox.mounts, os.environ.get("HOME"))
        inside = [host.toolbox.python, "-I", "-S", "-B", f"{fs.ROOM}/task_agent.py", json.dumps(relays)]
        line = host.sandbox.command(mounts, self._task.hostname.split(".")[0], self.room / "root", inside)
        return enter(line, subprocess.DEVNULL)

    def _listen(self, process: subprocess.Popen[bytes], metadata: socket.socket) -> None:
        news = process.stdout.fileno() if process.stdout else -1
        with selectors.PollSelector() as ready:
            for source in (news, metadata.fileno(), *self._outputs):
                ready.register(source, selectors.EVENT_READ)
            while True:
                sources = [key.fd for key, _ in ready.select(self._patience())]
                if not sources and process.poll() is not None:
                    return
                for source in sources:
                    if source in self._outputs:
                        self._outputs.drain(source)
                if metadata.fileno() in sources:
                    imds.serve_replies(metadata.accept()[0], self._reply)
                if (news in sources and not self._hear(news)) or self._step():
                    return

    def _patience(self) -> float:
        return max(0.0, min([5.0, self._cut_at - time.monotonic(), *self._left()]))

    def _left(self) -> list[float]:
        return [at - time.monotonic() for at in self._kill_at.values()]

    def _reply(self, method: str, path: str, _: Mapping[str, str]) -> imds.Answer:
        view = task_metadata.view(self._task, lambda: self._around.keys(self._task))
        return task_metadata.answer(view, method, path)

    def _hear(self, news: int) -> bool:
        """What the agent says; False at the end of file, when the sandbox is gone."""
        data = os.read(news, 65536)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "started" in said:
                self._task.started(said["started"])
            elif "ended" in said:
                self._kill_at.pop(said["ended"], None)
                self._outputs.flush(said["ended"])
                self._task.ended(said["ended"], said["code"])
            elif "failed" in said:
                command = task_orders.command(self._task.named(said["failed"]))[0]
                why = NOT_STARTED.format(command=command, why=said["why"])
                self._task.failed(said["failed"], why, ends=True)
        return bool(data)

    # --- orders -----------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Whatever is to be done now; True when nothing of the task is left to wait for."""
        task, now = self._task, time.monotonic()
        with task.lock:
            self._start_what_can(task)
            self._cut_down(task, now)
            if task.ending is None:
                return False
            for each in task.containers:
                self._bring_down(each, now)
            return self._lost or not any(
                each.state.phase in (Phase.STARTING, Phase.RUNNING) for each in task.containers
            )

    def _start_what_can(self, task: Task) -> None:
        for name in ecs_containers.hopeless(task.rules, task.states):
            task.failed(name, HOPELESS, ends=False)
        ending = ecs_containers.ending(task.rules, task.states)
        if ending is not None:
            task.end(ending)
        while task.ending is None and (names := ecs_containers.startable(task.rules, task.states)):
            for name in names:
                self._start_container(task.named(name))

    def _start_container(self, container: Container) -> None:
        if not task_orders.command(container):
            self._task.failed(container.rule.name, NO_COMMAND, ends=True)
            return
        self._task.starting(container.rule.name)
        base = {**self._around.python.environment, **self._secrets[container.rule.name]}
        self._order(task_orders.start(self._task, container, base, self._around.host.port))

    def _cut_down(self, task: Task, now: float) -> None:
        """A trouble that comes so many seconds after the task began to run."""
        if self._trouble.kind not in CUT_DOWN or "startedAt" not in task.times:
            return
        self._cut_at = min(self._cut_at, now + self._trouble.seconds)
        if now >= self._cut_at:
            self._cut_at = float("inf")
            task.end(CUT_DOWN[self._trouble.kind])
            if self._trouble.kind == "host-lost":
                self.kill()
            self._trouble = Trouble()

    def _bring_down(self, container: Container, now: float) -> None:
        name = container.rule.name
        if container.state.phase is not Phase.RUNNING:
            return
        if name not in self._kill_at:
            self._kill_at[name] = now + container.rule.stop_timeout
            self._order({"do": "term", "name": name})
        elif now >= self._kill_at[name]:
            self._kill_at[name] = float("inf")
            self._order({"do": "kill", "name": name})

    def _order(self, words: dict[str, Any]) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with self._writing, suppress(OSError, ValueError):
                data = (json.dumps(words) + "\n").encode()
                while data:
                    data = data[os.write(process.stdin.fileno(), data) :]

"""The doors at which a task process kills itself with SIGKILL, once a run; Airflow is left to recover."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_transient.core.intent import State
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.operators import launch as journey
from airflow_transient.operators.journal import Journal

MARKS = Path(os.environ.get("CRASH_MARKS", "/nonexistent"))
#: A job takes so long, and as long as the file of its run's try is there.
SECONDS = 6
HELD = f"{os.environ.get('CRASH_HELD', '/nonexistent')}/{{{{ run_id }}}}-{{{{ ti.try_number }}}}"
COMMON: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=1)}
DAG_WORDS: dict[str, Any] = {
    "params": {"at": ""},
    "max_active_runs": 50,
    "is_paused_upon_creation": False,
}
#: Longer than a call of RunTask takes by far.
LONG = 30.0

#: The run's point of death, as `conf` says; set when a task process starts.
armed: dict[str, str] = {}


def arm(context: Any) -> None:
    armed.update(at=context["params"]["at"], run=context["ti"].run_id)


def reach(step: str) -> None:
    """Die here if this is the step and this run has not died yet."""
    if due(step):
        mark().touch()
        os.kill(os.getpid(), signal.SIGKILL)


def due(step: str) -> bool:
    return armed.get("at") == step and not mark().exists()


def mark() -> Path:
    return MARKS / armed["run"].replace("/", "_").replace(":", "_")


class CrashingJournal(Journal):
    """Dies before or after the intent is written, told apart by the state that is written."""

    def write(self, intent: Any) -> None:
        reach(f"before writing '{state_of(intent)}'")
        super().write(intent)
        reach(f"after writing '{state_of(intent)}'")


def state_of(intent: Any) -> str:
    """In words; a burst whose members have ended, but for one that AWS took back, is launched again."""
    state = str(intent.state.value)
    if intent.state is State.DRAWN and intent.launch:
        state = "placed in part" if intent.launch.ids else "another round"
    return f"{state} again" if intent.ended and state != "another round" else state


class CrashingLauncher:
    """Dies before or after each call to AWS."""

    def __init__(self, launcher: Any) -> None:
        self._launcher = launcher

    def __getattr__(self, verb: str) -> Any:
        done = getattr(self._launcher, verb)
        if not callable(done):
            return done

        def called(*arguments: Any, **named: Any) -> Any:
            reach(f"before {verb}")
            answer = done(*arguments, **named)
            reach(f"after {verb}")
            return answer

        return called


class CrashingHook(TransientHook):
    def launcher(self, kind: str) -> Any:
        return CrashingLauncher(super().launcher(kind))

    def client(self, service: str, region_name: str | None = None, **config: Any) -> Any:
        client = super().client(service, region_name, **config)
        if service == "ecs":
            client.meta.events.register("before-send.ecs.RunTask", hold_the_second, unique_id="hold")
            client.meta.events.register("after-call.ecs.RunTask", answered, unique_id="answered")
        return client


ONE_OF_TWO = "when one RunTask was answered and the other not sent"


def hold_the_second(request: Any, **_: Any) -> None:
    """RunTask's calls are made at once, and the first answer kills; the second is not to be sent before."""
    if due(ONE_OF_TWO) and json.loads(request.body)["clientToken"].endswith("-1"):
        time.sleep(LONG)


def answered(**_: Any) -> None:
    reach(ONE_OF_TWO)
    reach("when the first RunTask was answered")


class Crashing:
    """An operator of ours, with the doors where a process can die marked."""

    def execute(self, context: Any) -> Any:
        prepare(context)
        return super().execute(context)  # type: ignore[misc]

    def execute_complete(self, context: Any, event: Any = None, **more: Any) -> Any:
        prepare(context)
        reach("before execute_complete")
        said = super().execute_complete(context, event, **more)  # type: ignore[misc]
        reach("after execute_complete")
        return said

    def defer(self, **words: Any) -> Any:
        reach("before deferring")
        super().defer(**words)  # type: ignore[misc]


def prepare(context: Any) -> None:
    arm(context)
    journey.Journal = CrashingJournal  # type: ignore[misc]
    journey.TransientHook = CrashingHook  # type: ignore[misc]


def watch_stock(context: Any, client: Any, service: str, action: str) -> None:
    """The provider's own operator is killed right before or after the same call."""
    arm(context)
    client.meta.events.register(f"before-send.{service}.{action}", lambda **_: reach("before launch"))
    client.meta.events.register(f"after-call.{service}.{action}", lambda **_: reach("after launch"))

"""The journey every launch makes: spec, key, launch, wait, verdict. What is launched is the subclass's business."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, conf

from airflow_transient.core.intent import Intent, Move
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Verdict
from airflow_transient.core.words import ended_in_words, launched_in_words
from airflow_transient.errors import SpecError, Stopped
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.links.ec2 import LAUNCH_KEY
from airflow_transient.operators.journal import Journal
from airflow_transient.retry import transient_retry_policy
from airflow_transient.triggers.launch import LaunchTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.retry_policy import RetryPolicy

    from airflow_transient.aws.launcher import Launcher

ON_KILL = ("terminate", "leave")


class LaunchOperator(BaseOperator):
    """
    Launch, wait, return the verdict. The parameters all launches share:

    :param aws_conn_id: Airflow connection of type ``aws``; default ``aws_default``, which may be absent (templated).
    :param region_name: AWS region; default: the connection's (templated).
    :param deferrable: wait in the triggerer and not in a worker; default ``[operators] default_deferrable``.
    :param poll_interval: seconds between looks, default 15; not templated.
    :param on_kill: ``"terminate"`` (default) or ``"leave"`` what was launched when the task is killed, cleared or
        marked while it waits; not templated.
    :param retries: default 2: without a retry nothing is adopted after a crash, and an interrupted job is not repeated.
    :param retry_policy: default ``airflow_transient.retry.transient_retry_policy``.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        *,
        aws_conn_id: str | None = DEFAULT_CONN_ID,
        region_name: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 15.0,
        on_kill: str = "terminate",
        retries: int = 2,
        retry_policy: RetryPolicy | None = transient_retry_policy,
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, retry_policy=retry_policy, **kwargs)
        if poll_interval <= 0:
            raise SpecError(f"poll_interval is {poll_interval}: seconds, and more than 0")
        if on_kill not in ON_KILL:
            raise SpecError(f"on_kill is {on_kill!r}: it must be one of {ON_KILL}")
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.kill = on_kill
        # on_kill runs inside a signal handler, where asking Airflow may deadlock: all it needs is here.
        self._live: tuple[Launcher, Launch] | None = None
        self._killed = False

    @abstractmethod
    def make_spec(self) -> Any:
        """The rendered words as a spec. Raises SpecError."""

    def execute(self, context: Context) -> Any:
        spec = self.make_spec()
        _refuse_masked(spec.secret_free_words())
        launcher = TransientHook(self.aws_conn_id, self.region_name).launcher(self.kind)
        journal = Journal(context)
        intent = self._begin(journal, launcher)
        if told := self._told_before(intent):
            return told
        intent = self._launch(spec, journal, launcher, intent)
        if intent.launch is None:
            raise SpecError("nothing was launched")
        context["ti"].xcom_push(LAUNCH_KEY, intent.launch.to_dict())
        return self._wait(context, launcher, intent.launch)

    def execute_complete(self, context: Context, event: Any = None, **_: Any) -> Any:
        return self._tell(context, Verdict.from_dict(event))

    def _begin(self, journal: Journal, launcher: Launcher) -> Intent:
        """What an earlier try left behind decides what this one does first."""
        intent = journal.read()
        if journal.test:
            self.log.info("airflow tasks test: launching anew, whatever an earlier run with this date has launched")
        if intent is None:
            return journal.draw()
        move = intent.next_move(journal.max_tries)
        self.log.info("launch %s is %r: %s", intent.launch_id, intent.state.value, move.value)
        if move is Move.STOP_AND_LAUNCH:
            self._stop_old(launcher, intent)
        if move in (Move.STOP_AND_LAUNCH, Move.LAUNCH_ANEW):
            return intent.anew(journal.max_tries)
        return replace(intent, refusals=())

    def _stop_old(self, launcher: Launcher, intent: Intent) -> None:
        """The task was cleared: its old launch ends. If it was only asked for, asking again tells its ids."""
        launch = intent.launch or (launcher.launch(intent.request) if intent.request else None)
        if launch:
            launcher.stop(launch)
            self.log.info("cleared: terminated %s", ", ".join(launch.ids))

    def _told_before(self, intent: Intent) -> dict[str, Any] | None:
        if not intent.verdict:
            return None
        self.log.warning(
            "launch %s has succeeded before; telling it again. Clear the task to launch anew.", intent.launch_id
        )
        return Verdict.from_dict(intent.verdict).to_dict()

    def _launch(self, spec: Any, journal: Journal, launcher: Launcher, intent: Intent) -> Intent:
        from airflow_transient.aws.placing import Placing

        if intent.launch is None:
            placing = Placing(journal.owner, journal.try_number, journal.write, self.log.warning, _now)
            intent = placing.place(launcher, spec, intent)
            self.log.info("%s", launched_in_words(intent.launch) if intent.launch else "nothing launched")
        else:
            self.log.info("adopted %s, launched by an earlier try", ", ".join(intent.launch.ids))
        return intent

    def _wait(self, context: Context, launcher: Launcher, launch: Launch) -> Any:
        if self.deferrable:
            self.defer(trigger=self._trigger(launch), method_name="execute_complete")
        self._live = launcher, launch
        try:
            verdict = self._wait_here(launcher, launch)
        except Exception:
            raise
        except BaseException:  # Ctrl-C, Airflow's execution_timeout: nobody will wait for it any more
            if self.kill == "terminate":
                launcher.stop(launch)
                self.log.info("interrupted: terminated %s", ", ".join(launch.ids))
            raise
        return self._tell(context, verdict)

    def _trigger(self, launch: Launch) -> LaunchTrigger:
        return LaunchTrigger(launch.to_dict(), self.aws_conn_id, self.region_name, self.poll_interval, self.kill)

    def _wait_here(self, launcher: Launcher, launch: Launch) -> Verdict:
        from airflow_transient.aws.watching import look

        said = None
        while not self._killed:
            verdict, words = look(launcher, launch, _now())
            if words != said:
                self.log.info("%s", words)
                said = words
            if verdict:
                return verdict
            self._pause()
        raise Stopped(f"launch {launch.token}: the task was killed and {', '.join(launch.ids)} terminated")

    def _pause(self) -> None:
        """In short slices: a signal handler returns into the sleep it interrupted."""
        end = time.monotonic() + self.poll_interval
        while not self._killed and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))

    def _tell(self, context: Context, verdict: Verdict) -> dict[str, Any]:
        """Written down as told before it is told, so that a retry does not tell a dead launch again."""
        journal = Journal(context)
        said = verdict.to_dict()
        if intent := journal.read():
            journal.write(intent.told(said))
        for line in verdict.lines():
            self.log.info("%s", line)
        self.log.info("%s", ended_in_words(verdict))
        verdict.raise_for_outcome()
        return said

    def on_kill(self) -> None:
        if self._live and self.kill == "terminate":
            launcher, launch = self._live
            launcher.stop(launch)
            self._killed = True


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _refuse_masked(words: Iterable[tuple[str, str]]) -> None:
    """A connection's secret rendered into a job would be readable by everyone who may describe the instance."""
    # The masker of this very task; Airflow has no public way to ask it.
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    for name, text in words:
        if redact(text) != text:
            raise SpecError(
                f"{name} holds a value that Airflow masks as a secret; it would be readable in the user data. Keep it "
                "in SSM or Secrets Manager and name the place in `secrets`"
            )

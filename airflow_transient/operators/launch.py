"""The journey every launch makes: spec, key, launch, wait, verdict. What is launched is the subclass's business."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator, conf
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_transient.core.intent import Intent, Move, State
from airflow_transient.core.launch import AT_DEADLINE, Launch
from airflow_transient.core.verdict import Outcome, Verdict, killed
from airflow_transient.core.words import in_short, launched_in_words, stopped_in_words
from airflow_transient.errors import AccessError, LaunchError, SpecError, TransientError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID, TransientHook
from airflow_transient.operators.exit_codes import ExitCodes
from airflow_transient.operators.journal import Journal
from airflow_transient.operators.secrets import refuse_masked
from airflow_transient.operators.telling import leave, leave_launch, tell
from airflow_transient.operators.waiting import WorkerWait
from airflow_transient.retry import transient_retry_policy

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.retry_policy import RetryPolicy

    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.triggers.launch import LaunchTrigger

ON_KILL = ("terminate", "leave")
#: How often a launch whose trigger died gets another one; after that a worker waits for it.
MAX_RESUMED = 5
#: A launch that was asked for so long ago is looked at before anybody waits for it.
LONG_AGO = timedelta(seconds=10)
#: What is left of a time that is over, for Airflow, which takes no less.
NO_TIME = timedelta(seconds=1)


class LaunchOperator(BaseOperator):
    """
    Launch, wait, return the verdict.

    ``execution_timeout`` of a deferred launch counts from when it was first asked for, and ends it as ``Overdue``. The
    parameters all launches share:

    :param aws_conn_id: Airflow connection of type ``aws``; default ``aws_default``, which may be absent (templated).
    :param region_name: AWS region; default: the connection's (templated).
    :param deferrable: wait in the triggerer and not in a worker; default ``[operators] default_deferrable``.
    :param poll_interval: seconds between looks, default 15; not templated. Waits in the triggerer share their looks: it
        is rounded down there to 1, 2, 5, 10, 15, 30, 60, 120 or n times 300; 5 at most in a launch's first minute.
    :param on_kill: ``"terminate"`` (default) or ``"leave"`` what was launched when the task is killed, cleared or
        marked while it waits; not templated.
    :param retry_on_exit_codes: exit codes of the job after which another try makes sense; default: none; not templated.
    :param fail_on_exit_codes: exit codes that fail at once, whatever ``retry_policy`` says; not templated.
    :param skip_on_exit_codes: exit codes that skip the task instead of failing it; not templated.
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
        retry_on_exit_codes: Collection[int] | int = (),
        fail_on_exit_codes: Collection[int] | int = (),
        skip_on_exit_codes: Collection[int] | int = (),
        retries: int = 2,
        retry_policy: RetryPolicy | None = transient_retry_policy,
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, retry_policy=retry_policy, **kwargs)
        if type(poll_interval) not in (int, float) or not poll_interval > 0:
            raise SpecError(f"poll_interval is {poll_interval!r}: seconds, and more than 0")
        if on_kill not in ON_KILL:
            raise SpecError(f"on_kill is {on_kill!r}: it must be one of {ON_KILL}")
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.kill = on_kill
        self.exit_codes = ExitCodes.of(retry_on_exit_codes, fail_on_exit_codes, skip_on_exit_codes)
        self._here = WorkerWait(poll_interval)

    @abstractmethod
    def make_spec(self) -> Any:
        """The rendered words as a spec. Raises SpecError."""

    def sized(self, context: Context, spec: Any, journal: Journal, intent: Intent) -> tuple[Any, Intent]:
        """The spec with how many members there should be now, and the intent that remembers it."""
        return spec, intent

    def settle(self, journal: Journal, intent: Intent, verdict: Verdict) -> tuple[Intent | None, Verdict]:
        """Everything has ended: (the intent of one more round for what AWS and not the job has ended, the verdict)."""
        return None, verdict

    def execute(self, context: Context) -> Any:
        spec = self._checked_spec()
        journal = self._journal(context, fresh=True)
        with self._ending_with_us(journal):
            return self._journey(context, spec, journal)

    def _words(self) -> dict[str, Any]:
        """What the author says of the launch itself."""
        return {
            name: getattr(self, name) for name in self.template_fields if name not in ("aws_conn_id", "region_name")
        }

    def _checked_spec(self) -> Any:
        spec = self.make_spec()
        refuse_masked(spec.secret_free_words())
        return spec

    def _journal(self, context: Context, fresh: bool = False) -> Journal:
        return Journal(context, fresh)

    @contextmanager
    def _ending_with_us(self, journal: Journal) -> Iterator[None]:
        """Where this leg is ended from outside, nobody will wait for the launch any more."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, AirflowTaskTimeout):
            if self.kill == "terminate":
                self._stop(journal.last, "interrupted")
            raise

    def _journey(self, context: Context, spec: Any, journal: Journal) -> Any:
        intent = self._begin(journal)
        if told := self._told_before(intent):
            return told
        spec, intent = self.sized(context, spec, journal, intent)
        return self._launch_and_wait(context, spec, journal, intent)

    def _launch_and_wait(self, context: Context, spec: Any, journal: Journal, intent: Intent) -> Any:
        launch = self._launch(spec, journal, self._launcher(self._region_of(intent)), intent)
        self._arm_kill_schedule(spec, launch)
        return self._look_after(context, journal, launch)

    def _look_after(self, context: Context, journal: Journal, launch: Launch) -> Any:
        leave_launch(context, launch)
        return self._wait(context, journal, self._launcher_of(launch), launch)

    def execute_complete(self, context: Context, event: Any = None, **_: Any) -> Any:
        launch, journal = Launch.from_dict(event["launch"]), self._journal(context)
        with self._ending_with_us(journal):
            if ours := self._instead_of(launch, journal):
                return self._wait(context, journal, self._launcher_of(ours), ours)
            launcher = self._launcher_of(launch)
            return self._go_on(context, journal, launcher, launch, Verdict.from_dict(event))

    def _instead_of(self, told: Launch, journal: Journal) -> Launch | None:
        """
        What this task waits for, where an event is of something else.

        A clear deletes the trigger's row; SQLite gives its number to the next one, and what the old trigger tells in
        its last second reaches the task that waits anew (Trigger.submit_event goes by the number alone).
        """
        intent = journal.read()
        if intent is None or intent.launch is None or not (told.ids and intent.launch.ids):
            return None
        if not {*intent.launch.ids, *(member.id for member in intent.ended)}.isdisjoint(told.ids):
            return None
        self.log.warning("told how an earlier launch ended (%s); waiting on", in_short(told.ids))
        return intent.launch

    def _go_on(self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, verdict: Verdict) -> Any:
        """Some or all have ended. Write that down; wait for the rest, launch what is missing, or tell the verdict."""
        intent = journal.read()
        if intent is None or intent.launch is None:
            return self._tell(context, journal, launcher, launch, verdict)
        earlier, intent = intent.ended, intent.handed_on(verdict.members)
        if verdict.open and intent.launch:
            journal.write(intent)
            self.log.info("%d have ended, %d still run", len(intent.ended), len(verdict.open))
            return self._wait(context, journal, launcher, intent.launch)
        again, verdict = self.settle(journal, intent, verdict.joined(earlier, intent.need))
        if again:
            journal.write(again)
            spec, again = self.sized(context, self.make_spec(), journal, again)
            return self._launch_and_wait(context, spec, journal, again)
        return self._tell(context, journal, launcher, launch, verdict)

    def _launcher(self, region_name: str | None) -> Launcher:
        return TransientHook(self.aws_conn_id, region_name).launcher(self.kind)

    def _launcher_of(self, launch: Launch) -> Launcher:
        """What exists is looked at as what it is and where it is, whatever is written here since."""
        return TransientHook(self.aws_conn_id, launch.region).launcher(launch.kind)

    def _region_of(self, intent: Intent) -> str | None:
        """What has begun in a region goes on there."""
        begun = intent.request.launch if intent.request else intent.launch
        return begun.region if begun else self.region_name

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow resumes here when the trigger died or timed out, too: the launch lives on, so it is looked after."""
        if next_method != TRIGGER_FAIL_REPR:
            return super().resume_execution(next_method, next_kwargs, context)
        why = (next_kwargs or {}).get("error")
        journal = self._journal(context)
        intent = journal.read()
        if intent is None or intent.launch is None:
            return super().resume_execution(next_method, next_kwargs, context)
        self.log.warning("the trigger ended without a verdict (%s)", why)
        launcher = self._launcher_of(intent.launch)
        if why == TriggerFailureReason.TRIGGER_TIMEOUT:
            launcher.stop(intent.launch, AT_DEADLINE)
        elif intent.resumed < MAX_RESUMED:
            journal.write(intent.resuming())
            self._defer(intent.launch, self._trigger(intent.launch))
        with self._ending_with_us(journal):
            return self._wait(context, journal, launcher, intent.launch, here=True)

    def _begin(self, journal: Journal) -> Intent:
        """What an earlier try left behind decides what this one does first."""
        intent = journal.read()
        if journal.test:
            self.log.info("airflow tasks test: launching anew, whatever an earlier run with this date has launched")
        if intent is None:
            return journal.draw()
        was_killed = self._was_killed(intent)
        move = Move.STOP_AND_LAUNCH if was_killed else intent.next_move(journal.max_tries)
        self.log.info("launch %s is %r: %s", intent.launch_id, intent.state.value, move.value)
        if move is Move.STOP_AND_LAUNCH:  # a kill may have been cut short: some are stopped, and some are not
            self._stop(intent, "killed before" if was_killed else "cleared")
        if move in (Move.STOP_AND_LAUNCH, Move.LAUNCH_ANEW):
            return self._anew(journal, intent)
        return replace(intent, refusals=(), rounds=0)

    def _anew(self, journal: Journal, intent: Intent) -> Intent:
        return intent.anew(journal.max_tries)

    def _was_killed(self, intent: Intent) -> bool:
        launch = intent.launch
        return launch is not None and killed(self._launcher_of(launch).observe(launch, _now()))

    def _stop(self, intent: Intent | None, why: str) -> None:
        """End what an intent has started. If it was only asked for, its token tells what there is."""
        known = intent and (intent.launch or (intent.request and intent.request.launch))
        if not intent or not known:
            return
        launcher = self._launcher_of(known)
        launch = (launcher.adopt(intent.asked) if intent.asked else None) or intent.launch
        if launch and launch.ids:
            launcher.stop(launch)
            self.log.info("%s: %s %s", why, stopped_in_words(launch), in_short(launch.ids))

    def _told_before(self, intent: Intent) -> dict[str, Any] | None:
        if not intent.verdict:
            return None
        self.log.warning(
            "launch %s has succeeded before; telling it again. Clear the task to launch anew.", intent.launch_id
        )
        return dict(intent.verdict)

    def _launch(self, spec: Any, journal: Journal, launcher: Launcher, intent: Intent) -> Launch:
        # Asked for and without an answer, it is asked again, though a part may have come from elsewhere.
        if intent.launch and intent.state is State.PLACED:
            self.log.info("adopted %s, launched by an earlier try", in_short(intent.launch.ids))
            return intent.launch
        try:
            launch = self._place(spec, journal, launcher, intent)
        except (SpecError, LaunchError) as error:
            # After these two no try follows, and a part may have come before the refusal.
            if journal.last_try or isinstance(error, SpecError | AccessError):
                self._give_up(journal)
            raise
        self.log.info("%s", launched_in_words(launch))
        return launch

    def _place(self, spec: Any, journal: Journal, launcher: Launcher, intent: Intent) -> Launch:
        from airflow_transient.aws.placing import Placing

        placing = Placing(journal.owner, journal.try_number, journal.write, self.log.warning, _now)
        return placing.place(launcher, spec, intent)

    def _arm_kill_schedule(self, spec: Any, launch: Launch) -> None:
        """One more guard, and not the only one: where it cannot be armed that is said, and the launch goes on."""
        from airflow_transient.aws.kill_schedule import arm

        if not spec.kill_schedule_role:
            return
        try:
            arm(TransientHook(self.aws_conn_id, launch.region).client, launch, spec.kill_schedule_role)
        except TransientError as error:
            self.log.warning("no kill schedule for %s: %s", launch.token, error)

    def _give_up(self, journal: Journal) -> None:
        """A later try would go on with what exists; without one nobody would look after it."""
        try:
            self._stop(journal.last, "no try is left")
        except TransientError as error:  # what made us give up is what is raised
            self.log.warning("what may have been launched could not be stopped, the reaper will: %s", error)

    def _wait(self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, here: bool = False) -> Any:
        if not launch.ids:  # an earlier try has seen all of it end
            return self._go_on(context, journal, launcher, launch, Verdict(launch.token, (), kind=launch.kind))
        if self.deferrable and not here:
            if ended := self._ended_meanwhile(launcher, launch):
                return self._go_on(context, journal, launcher, launch, ended)
            self._defer(launch, self._trigger(launch))
        verdict = self._here.wait(launcher, launch, lambda words: self.log.info("%s", words))
        return self._go_on(context, journal, launcher, launch, verdict)

    def _ended_meanwhile(self, launcher: Launcher, launch: Launch) -> Verdict | None:
        """Where it may have ended already a look, and no deferral where it has.

        Airflow (3.3) may fail a try whose trigger fires within moments of its deferral: the scheduler then hears that
        a leg has ended when the next one is queued already ("state mismatch"), and further tries would go the same way.
        """
        if not self._may_have_ended(launch):
            return None
        ended, words = self._here.look(launcher, launch)
        if ended:
            self.log.info("%s", words)
        return ended

    def _may_have_ended(self, launch: Launch) -> bool:
        """Such as one that an earlier try has made."""
        return _now() - launch.asked_at >= LONG_AGO

    def _defer(self, launch: Launch, trigger: LaunchTrigger) -> NoReturn:
        self.defer(trigger=trigger, method_name="execute_complete", timeout=self._time_left(launch))

    def _time_left(self, launch: Launch) -> timedelta | None:
        """
        Of `execution_timeout`, since the launch was first asked for.

        Airflow (3.3) gives each leg on a worker the whole of it, and the wait of a trigger none, unless it is told.
        """
        if self.execution_timeout is None:
            return None
        return max(launch.requested_at + self.execution_timeout - _now(), NO_TIME)

    def _trigger(self, launch: Launch) -> LaunchTrigger:
        from airflow_transient.triggers.launch import LaunchTrigger  # no DAG file needs it

        return LaunchTrigger(launch.to_dict(), self.aws_conn_id, self.poll_interval, self.kill)

    def _tell(
        self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, verdict: Verdict
    ) -> dict[str, Any]:
        """Written down as told before it is told, so that a retry does not tell a dead launch again."""
        said = verdict.to_dict()
        if intent := journal.read():
            journal.write(intent.told(said))
        tell(self.log, launcher, launch, verdict, said)
        if verdict.outcome is not Outcome.SUCCEEDED:
            leave(context, launch, verdict, said)
        self.exit_codes.check(verdict)
        verdict.raise_for_outcome()
        return said

    def on_kill(self) -> None:
        if self.kill != "terminate" or (self.deferrable and not self._here.looks_after):
            return  # in the short leg before a deferral the next try, the trigger and the reaper look after it
        self._here.kill()


def _now() -> datetime:
    return datetime.now(timezone.utc)

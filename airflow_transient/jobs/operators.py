"""The two tasks of a job on ECS: `launch` decides, launches and ends; `wait` takes over what came.

One task cannot do both: Airflow counts a deferred task as active (max_active_tis_per_dag), so that a job whose tasks
run for an hour would decide once an hour. Both are the same owner, `wait`: a top-up counts what any run has launched,
and the reaper asks after the task that looks after it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_transient.core.intent import Intent, State
from airflow_transient.core.launch import Launch
from airflow_transient.core.reaping import Answer, Standing
from airflow_transient.core.verdict import Verdict
from airflow_transient.core.words import in_short
from airflow_transient.errors import LaunchError, SpecError
from airflow_transient.links.launch import LAUNCH_KEY
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.ecs import SIZE_KEY, EcsBurstOperator, launched
from airflow_transient.operators.journal import Journal
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.timetables.cron import GRACE, EightFieldCronTimetable

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.core.requests import Request

LAUNCH, WAIT = "launch", "wait"
#: The XCom by which `launch` hands over.
HANDED_KEY = "handed"
#: States of a task that nothing but a clear ends.
OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
#: So long a run may take from its fire to its start, beside the grace: the scheduler makes and starts runs one by one.
TO_SCHEDULE = timedelta(seconds=60)


class OnTime(LaunchOperator):
    """
    Skips the fire of a schedule that Airflow made a run of long after its moment, or by the job as it was before.

    A scheduler runs what is noted as a DAG's next run without asking the timetable (models/dag.py,
    `dags_needing_dagruns`). That may be from before a long stop, or from a parse that had begun before a change or
    a resume. What is run by hand, cleared or backfilled is wanted whenever it runs.

    :param fires: the job's schedule as its document says by now.
    """

    def __init__(self, *, fires: EightFieldCronTimetable | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fires = fires

    def execute(self, context: Context) -> Any:
        if why := why_not_now(context["dag_run"], self.fires):
            raise AirflowSkipException(f"nothing to launch: {why}")
        return super().execute(context)


def why_not_now(run: Any, fires: EightFieldCronTimetable | None) -> str | None:
    """Why a run of the schedule is none any more, in words; None: it is one."""
    if run.run_type != "scheduled" or run.clear_number or run.start_date is None:
        return None
    due = f"{run.run_after:%Y-%m-%d %H:%M:%S} UTC"
    if fires and not fires.names(run.run_after):
        return f"{due} is no time of this job's since it was last made, changed or resumed"
    late = run.start_date - run.run_after
    return f"due at {due}, this fire came {late} late" if late > GRACE + TO_SCHEDULE else None


class JobLaunch(OnTime, EcsBurstOperator):
    """
    Launches what is missing now, hands it over to another task, and ends. Nothing is missing: it is skipped.

    `airflow tasks test` runs it alone, where nobody takes over: then it waits, too.

    :param for_task: id of the task that waits. What is launched is in its name.
    """

    def __init__(self, *, for_task: str = WAIT, **kwargs: Any) -> None:
        super().__init__(deferrable=True, **kwargs)
        self.for_task = for_task

    def _journal(self, context: Context, fresh: bool = False) -> Journal:
        return Journal(context, fresh, self.for_task)

    def _journey(self, context: Context, spec: Any, journal: Journal) -> Any:
        """Cleared, it ends first what is waited for by now, rounds and all: nothing of this run tops up this run."""
        if not journal.test:
            self._refuse_alone(context["ti"])
        if journal.read() and not journal.test:
            said = context["ti"].xcom_pull(task_ids=self.for_task, key=LAUNCH_KEY)
            waited_for = Launch.from_dict(said) if isinstance(said, dict) else None
            if waited_for and waited_for.ids:
                self._launcher_of(waited_for).stop(waited_for)
        return super()._journey(context, spec, journal)

    def _refuse_alone(self, ti: Any) -> None:
        """Cleared without the task that waits, it would launch what nobody looks after, and the reaper ends."""
        said = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.for_task], run_ids=[ti.run_id])
        state = said.get(ti.run_id, {}).get(self.for_task)
        if state in OVER:
            raise AirflowFailException(
                f"{self.for_task} of this run is over ({state}): clear it together with this task"
            )

    def sized(self, context: Context, spec: Any, journal: Journal, intent: Intent) -> tuple[Any, Intent]:
        """A try that comes late, for want of room or of an answer, launches no more than what is missing by then."""
        if intent.request is not None:
            intent = self._asked_before(spec, journal, intent, intent.request)
        if intent.state is State.PLACED:
            return spec, intent
        if intent.wanted is not None and intent.state is State.DRAWN:
            came = len(intent.launch.ids) if intent.launch else 0
            now = self._size(spec, journal)
            context["ti"].xcom_push(SIZE_KEY, now.to_dict())
            intent = replace(intent, wanted=came + min(now.count, intent.wanted - came))
            if not intent.wanted:
                raise AirflowSkipException(f"nothing to launch any more: {now.reason}")
            self.log.info("%d more wanted by now: %s", now.count, now.reason)
        return super().sized(context, spec, journal, intent)

    def _asked_before(self, spec: Any, journal: Journal, intent: Intent, request: Request) -> Intent:
        """
        An answer was lost. What came is what this fire has launched; if nothing did, it is asked for again, so that the
        same token starts it once. Unless less is missing by now: each fire since then may have asked for the same.
        """
        if came := self._launcher_of(request.launch).adopt(request):
            intent = intent.placed(came, request.pool).complete()
            journal.write(intent)
            return intent
        if self._size(spec, journal).count >= request.wanted:
            return intent
        return replace(intent, state=State.DRAWN, request=None)

    def _wait(self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, here: bool = False) -> Any:
        if journal.test or journal.last is None:
            return super()._wait(context, journal, launcher, launch, here)
        context["ti"].xcom_push(HANDED_KEY, journal.last.to_dict())
        return launched(launch, journal.last)


class JobWait(EcsBurstOperator):
    """
    Takes over what another task has launched, and sees it to its end: verdict, rounds, retries, kills.

    Whatever the document says by now, what was launched is waited for as it was asked for. Cleared alone, it stops that
    and launches anew; cleared together with the other task, it takes over what that launches then.

    :param handed_by: id of the task that launches.
    """

    def __init__(self, *, handed_by: str = LAUNCH, **kwargs: Any) -> None:
        super().__init__(deferrable=True, **kwargs)
        self.handed_by = handed_by

    def execute(self, context: Context) -> Any:
        journal = self._journal(context, fresh=True)
        with self._ending_with_us(journal):
            intent = self._taken_over(context, journal) or self._begun(journal)
            if told := self._told_before(intent):
                return told
            if intent.launch and intent.state is State.PLACED:
                return self._look_after(context, journal, intent.launch)
            spec, intent = self.sized(context, self._checked_spec(), journal, intent)
            return self._launch_and_wait(context, spec, journal, intent)

    def execute_complete(self, context: Context, event: Any = None, **later: Any) -> Any:
        """Where the other task was cleared alone, what was waited for was stopped, and there is something new."""
        journal = self._journal(context)
        with self._ending_with_us(journal):
            taken = self._taken_over(context, journal)
            if taken and taken.launch:
                return self._look_after(context, journal, taken.launch)
            if self._is_launching(context, journal):
                raise LaunchError(f"{self.handed_by} was cleared, and launches anew: the next try takes that over")
        return super().execute_complete(context, event, **later)

    def _taken_over(self, context: Context, journal: Journal) -> Intent | None:
        """What is handed over, where what this task knows of did not come from it."""
        handed, known = self._handed(context, journal), journal.read()
        if handed is None or handed.launch is None or (known and comes_from(known, handed)):
            return None
        self._stop(known, "launched anew")
        taken = replace(handed, max_tries=journal.max_tries)
        journal.write(taken)
        self.log.info("taken over from %s: %s", self.handed_by, in_short(handed.launch.ids))
        return taken

    def _handed(self, context: Context, journal: Journal) -> Intent | None:
        """Not in `airflow tasks test`, which finds the XComs of an earlier run with its date."""
        said = None if journal.test else context["ti"].xcom_pull(task_ids=self.handed_by, key=HANDED_KEY)
        return Intent.from_dict(said) if isinstance(said, dict) else None

    def _is_launching(self, context: Context, journal: Journal) -> bool:
        """
        Whether the other task runs again, and has stopped what this one has waited for.

        Airflow takes its XComs away as it begins; but they may also be gone because they were old.
        """
        ti: Any = context["ti"]
        if journal.test or self._handed(context, journal):
            return False
        found = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.handed_by], run_ids=[ti.run_id])
        return Answer.of_state(found.get(ti.run_id, {}).get(self.handed_by)).standing is Standing.ALIVE

    def _begun(self, journal: Journal) -> Intent:
        if journal.last is None and not journal.test:
            raise SpecError(
                f"{self.handed_by} has handed nothing over to wait for: it was marked, not run. Clear it, and all "
                "after it, to launch"
            )
        return self._begin(journal)

    def _anew(self, journal: Journal, intent: Intent) -> Intent:
        """Under a name of its own: the other task, cleared as well, counts its generations by itself."""
        return replace(super()._anew(journal, intent), launch_id=name_of_its_own(intent))


def name_of_its_own(intent: Intent) -> str:
    """The launch id of what is launched again by who has taken over; the ids that are drawn hold no w."""
    own = intent.launch_id.endswith("w")
    return intent.launch_id if own else f"{intent.launch_id}-{intent.generation}w"


def comes_from(known: Intent, handed: Intent) -> bool:
    """Whether it is what was handed over, or was launched again after it."""
    same = (known.launch_id, known.generation) == (handed.launch_id, handed.generation)
    return same or known.launch_id == name_of_its_own(handed)


class JobMachine(OnTime, TransientEc2Operator):
    """The one task of a job on EC2."""


class _Unwritten(LaunchOperator):
    """
    Of a document that cannot be read: what would launch fails with the reason, and what waits is waited for.

    :param reason: one sentence.
    """

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def make_spec(self) -> Any:
        raise SpecError(self.reason)

    def settle(self, journal: Journal, intent: Intent, verdict: Verdict) -> tuple[Intent | None, Verdict]:
        return None, verdict


class UnwrittenLaunch(_Unwritten, JobLaunch):
    """In the place of a `launch` on ECS."""


class UnwrittenWait(_Unwritten, JobWait):
    """In the place of a `wait`."""


class UnwrittenMachine(_Unwritten, JobMachine):
    """In the place of a `launch` on EC2."""

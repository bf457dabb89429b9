"""What working a queue off adds to a launch's journey: it grows while it runs, and the queue says how it ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import TriggerFailureReason
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from airflow_transient.core.ecs.spec import RULE_WORDS
from airflow_transient.core.intent import State
from airflow_transient.core.launch import AT_DEADLINE, BY_PERSON, Launch, LaunchKey, draft_launch
from airflow_transient.core.verdict import ERRORS, Member, Outcome, Verdict
from airflow_transient.core.workers import ending
from airflow_transient.core.workers.spec import WorkersSpec
from airflow_transient.core.workers.tally import Tally
from airflow_transient.core.workers.turns import Crew, Move, Terms, Turn, wanted
from airflow_transient.errors import JobFailed, RunError, SpecError, TransientError
from airflow_transient.operators.growing import GrowingOperator
from airflow_transient.operators.launch import NO_TIME
from airflow_transient.operators.literals import all_plain
from airflow_transient.operators.telling import leave, lines_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.core.intent import Intent
    from airflow_transient.operators.journal import Journal
    from airflow_transient.triggers.workers import WorkersTrigger

#: What the author says of the workers; the rest of an operator's words are of its machines.
WORDS = (
    *("sqs_queue", "command", "results", "failures", "processes", "messages_per_process", "max_count", "interval"),
    *("idle_timeout", "job_timeout", "max_dead_letters", "worker_options"),
)
#: Machines run the worker, and the queue says how many: these of a launch's words are not the author's.
TAKEN = ("count", "script", "queues", *(word for word in RULE_WORDS if word not in (*WORDS, "claim_seconds")))
#: A container's last lines may come to CloudWatch some seconds after its end: so often they are read, and so far apart.
READ_AGAIN, READ_PAUSE = 5, 2.0


class CrewOperator(GrowingOperator):
    """The rounds that all workers of a queue share; the parameters are told where there are machines."""

    def __init__(
        self,
        *,
        sqs_queue: str,
        command: str | Sequence[str],
        results: str | None = None,
        failures: str | None = None,
        processes: int | str = 1,
        messages_per_process: int | str = 100,
        max_count: int | str = 10,
        interval: timedelta | float | str = 60,
        idle_timeout: timedelta | float | str = 60,
        job_timeout: timedelta | float | str = timedelta(hours=1),
        max_dead_letters: int | str | None = 0,
        worker_options: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        if taken := sorted(set(TAKEN) & set(kwargs)):
            raise SpecError(f"{', '.join(taken)}: the queue says how many machines there are, and they run the worker")
        super().__init__(**kwargs)
        self.sqs_queue = sqs_queue  # `queue` is an executor's
        self.command: str | Sequence[str] | None = command
        self.results = results
        self.failures = failures
        self.processes = processes
        self.messages_per_process = messages_per_process
        self.max_count: int | str | None = max_count
        self.interval = interval
        self.idle_timeout = idle_timeout
        self.job_timeout = job_timeout
        self.max_dead_letters = max_dead_letters
        self.worker_options = worker_options

    def _workers(self) -> WorkersSpec:
        words = {name: getattr(self, name) for name in WORDS}
        from airflow_transient.aws.workers import check_options

        spec = WorkersSpec.of(all_plain(words | {"worker": getattr(self, "worker", None)}))
        check_options(spec)
        return spec

    def _reports(self, launch: Launch, members: Iterable[Member]) -> tuple[Member, ...]:
        """These with what their worker left as `result`."""
        return tuple(members)

    # --- how many

    def sized(self, context: Context, spec: Any, journal: Journal, intent: Intent) -> tuple[Any, Intent]:
        """As an earlier try has decided, or as many as the queue asks for now."""
        if intent.wanted is not None:
            return spec, intent
        from airflow_transient.aws.sqs import read_depth

        depth = read_depth(self._client_factory(), self._workers().queue, _now())
        first = wanted(self._terms(_now(), Tally()), Crew(), depth, _now())
        self.log.info("%s", first.reason)
        return spec, self._grown(intent, first.count, first.reason) if first.count else intent

    def _journey(self, context: Context, spec: Any, journal: Journal) -> Any:
        return self._in_time(context, journal, lambda: super(CrewOperator, self)._journey(context, spec, journal))

    def _launch_and_wait(self, context: Context, spec: Any, journal: Journal, intent: Intent) -> Any:
        if intent.launch and self._is_over(intent.launch, Tally.from_dict(intent.kept)):
            journal.write(intent)
            return self._look_after(context, journal, intent.launch)
        if intent.launch and intent.launch.ids and intent.state is not State.PLACED:
            return self._look_after(context, journal, self._beside(journal, intent, intent, spec))
        if intent.wanted is not None:
            return super()._launch_and_wait(context, spec, journal, intent)
        # A queue that has just been filled may still say 0, and what is delayed will come: it is watched for a while.
        launch = intent.launch or self._nothing_yet(spec, journal, intent)
        journal.write(replace(intent, launch=launch))
        return self._wait(context, journal, self._launcher_of(launch), launch)

    def _nothing_yet(self, spec: Any, journal: Journal, intent: Intent) -> Launch:
        region = self._client_factory()("sqs").meta.region_name
        key = LaunchKey(journal.owner, intent.launch_id, intent.generation, 0, journal.try_number)
        return draft_launch(self.kind, spec, key, region, _now(), secrets.token_hex(8))

    def _was_killed(self, intent: Intent) -> bool:
        return bool(intent.launch and intent.launch.ids) and super()._was_killed(intent)

    # --- the wait

    def _wait(self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, here: bool = False) -> Any:
        return self._in_time(context, journal, lambda: self._turns(context, journal, launcher, launch, here))

    def _turns(self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, here: bool) -> Any:
        while True:
            tally = Tally.from_dict(journal.last.kept if journal.last else None)
            if self._is_over(launch, tally):
                tally = self._called_time(journal, tally)
                launcher.stop(launch, AT_DEADLINE)
            terms = self._terms(launch.deadline, tally)
            if self._here.looks_after:  # of a leg that can be killed, also what has come in it
                self._here.look_after(launcher, launch)
            if self.deferrable and not here and not self._here.killed:
                self._defer(launch, self._trigger(launch, terms))
            came = self._take(context, journal, launch, self._next_turn(launcher, launch, terms))
            if not isinstance(came, Launch):
                return came
            launch, launcher, here = came, self._launcher_of(came), False

    def _in_time(self, context: Context, journal: Journal, leg: Callable[[], Any]) -> Any:
        """Where Airflow's timeout ends a leg of ours, it ends as where a trigger waits: with what came of it."""
        try:
            return leg()
        except AirflowTaskTimeout:
            intent = journal.last  # a question to Airflow may be what it has interrupted
            if intent is None or intent.launch is None:
                raise
            self._called_time(journal, Tally.from_dict(intent.kept))
            return self._turns(context, journal, self._launcher_of(intent.launch), intent.launch, here=True)

    def _is_over(self, launch: Launch, tally: Tally) -> bool:
        left = super()._time_left(launch)
        return tally.stopped == AT_DEADLINE or (left is not None and left <= NO_TIME)

    def _time_left(self, launch: Launch) -> timedelta | None:
        """None, too, where it is over: those that have been stopped need as long as they need."""
        left = super()._time_left(launch)
        return left if left and left > NO_TIME else None

    def _called_time(self, journal: Journal, tally: Tally) -> Tally:
        """`execution_timeout` is over: all are ended, and no others come in their place."""
        over = replace(tally, stopped=tally.stopped or AT_DEADLINE)
        if over != tally and journal.last:
            self.log.warning("execution_timeout is over: all are ended, and no others come")
            journal.write(replace(journal.last, kept=over.to_dict()))
        return over

    def _next_turn(self, launcher: Launcher, launch: Launch, terms: Terms) -> Turn:
        from airflow_transient.aws.workers import CrewWatch

        watch = CrewWatch(launcher, launch, terms, self._client_factory)
        turn: Turn = self._here.wait(launcher, launch, lambda words: self.log.info("%s", words), watch)
        return turn

    def _terms(self, until: datetime, tally: Tally) -> Terms:
        workers = self._workers()
        until = min(until, _now()) if tally.stopped == AT_DEADLINE else until
        grows = tally.may_grow, tally.not_before(workers.interval)
        return Terms(workers.queue, workers.rule, workers.processes, workers.interval, until, *grows)

    def _trigger(self, launch: Launch, terms: Terms | None = None) -> WorkersTrigger:
        from airflow_transient.triggers.workers import WorkersTrigger  # no DAG file needs it

        terms = terms or self._terms(launch.deadline, Tally())
        said = launch.to_dict(), terms.to_dict()
        return WorkersTrigger(*said, self.aws_conn_id, self.region_name, self.poll_interval, self.kill)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        if (next_kwargs or {}).get("error") == TriggerFailureReason.TRIGGER_TIMEOUT:
            journal = self._journal(context)
            if intent := journal.read():
                self._called_time(journal, Tally.from_dict(intent.kept))
        return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Any = None, **_: Any) -> Any:
        journal, launch = self._journal(context), Launch.from_dict(event["launch"])
        with self._ending_with_us(journal):
            if ours := self._instead_of(launch, journal):
                return self._wait(context, journal, self._launcher_of(ours), ours)
            self._here.look_after(self._launcher_of(launch), launch)  # a growth may take minutes
            return self._in_time(context, journal, lambda: self._took(context, journal, launch, Turn.from_dict(event)))

    def _took(self, context: Context, journal: Journal, launch: Launch, turn: Turn) -> Any:
        came = self._take(context, journal, launch, turn)
        return self._wait(context, journal, self._launcher_of(came), came) if isinstance(came, Launch) else came

    # --- what came of it: more, or the end

    def _take(self, context: Context, journal: Journal, launch: Launch, turn: Turn) -> Launch | dict[str, Any]:
        """What is to be waited for now; or, when it is over, what is told."""
        intent = journal.read() or replace(journal.draw(), launch=launch)
        intent, tally = self._written_down(intent, launch, turn)
        try:
            found, answered = self._found_late(intent), True
        except TransientError as error:
            self.log.warning("whether the last growth brought machines cannot be said yet: %s", error)
            found, answered = None, False
        if turn.count and not found and not self._here.killed:
            tally = tally.weighed(_at()) if turn.live else tally
            intent = replace(intent, kept=tally.to_dict())
            grows = self._terms(launch.deadline, tally).lets_grow(turn.live, _now())
            if grows and not self._is_over(intent.launch or launch, tally):
                return self._more(context, journal, intent, turn)
        if turn.move is Move.END and not found and (answered or not self._may_ask_again(launch, tally, turn)):
            return self._end(context, journal, intent, tally, turn)
        intent = found or intent
        journal.write(intent)
        if found and found.launch:
            self._guard_late(context, found.launch)
        return intent.launch or launch

    def _may_ask_again(self, launch: Launch, tally: Tally, turn: Turn) -> bool:
        """Of a growth without an answer: when the queue has been read again, since nobody else waits for its machines.
        Where it is not drained a reading ends it at once; those that came then have nothing but their own ends."""
        return turn.drained and not self._here.killed and not self._is_over(launch, tally) and _now() < launch.deadline

    def _written_down(self, intent: Intent, launch: Launch, turn: Turn) -> tuple[Intent, Tally]:
        """Those that have ended: their sums, and how each ended. What they left is read once, and not kept."""
        known, before = (intent.launch.ids if intent.launch else ()), {member.id for member in intent.ended}
        over = [member for member in turn.members if member.id in known]
        members = self._reports(launch, (member for member in over if member.id not in before))
        tally = Tally.from_dict(intent.kept).ended(members)
        tally = replace(tally, stopped=tally.stopped or (BY_PERSON if turn.stopped else None))
        plain = [replace(member, result=None, result_error=None) for member in over]
        intent = replace(intent.handed_on(plain), kept=tally.to_dict())
        if intent.request and intent.launch:  # whoever asks again adds to those that are left
            asked = replace(intent.request.launch, ids=intent.launch.ids)
            intent = replace(intent, request=replace(intent.request, launch=asked))
        return intent, tally

    def _end(self, context: Context, journal: Journal, intent: Intent, tally: Tally, turn: Turn) -> dict[str, Any]:
        launch = intent.launch
        if launch is None or not intent.ended:
            journal.write(intent.gone())
            if turn.drained:
                raise AirflowSkipException(f"nothing to do: {turn.reason}")
            raise ERRORS[Outcome.OVERDUE](f"nothing of {self.sqs_queue} could be worked on so far: {turn.reason}")
        journal.write(intent)  # whoever comes next may find that AWS has forgotten them
        tally = self._read_again(launch, tally)
        verdict = Verdict(launch.token, intent.ended, kind=launch.kind, need=0 if turn.drained else None)
        workers = self._workers()
        error = ending.what_is_wrong(launch, workers, verdict, tally, turn, lambda: self._left(workers, turn))
        said = {**verdict.to_dict(), **ending.told(tally), "queue": self.sqs_queue}
        said["outcome"] = Outcome.SUCCEEDED.value if error is None else ending.outcome_of(error).value
        journal.write(replace(intent.told(said), kept=None))
        tell = self.log.info if error is None else self.log.warning
        for line in (*lines_of(self._launcher_of(launch), launch, verdict, said), ending.in_words(tally, turn)):
            tell("%s", line)
        if error is None:
            return said
        leave(context, launch.with_ids((verdict.worst.id,)), verdict, said)
        raise self._wished(error, verdict)

    def _wished(self, error: RunError, verdict: Verdict) -> RunError:
        """With what the author's lists of exit codes ask for; they may ask to skip."""
        try:
            self.exit_codes.check(verdict)
        except JobFailed as said:  # ours tells more than a member's
            if isinstance(error, JobFailed):
                error.wish = said.wish
        return error

    def _left(self, workers: WorkersSpec, turn: Turn) -> str:
        from airflow_transient.aws.sqs import read_depth

        try:
            return str(read_depth(self._client_factory(), workers.queue, _now()))
        except TransientError as error:
            return turn.reason if str(error) in turn.reason else f"{turn.reason} ({error})"

    def _read_again(self, launch: Launch, tally: Tally) -> Tally:
        """The receipts that were not there yet when their machines had ended."""
        for pause in (0.0, *[READ_PAUSE] * READ_AGAIN):
            missing = [Member(id, Outcome.SUCCEEDED) for id in tally.unread]
            if not missing or not self._reads_late(launch):
                break
            time.sleep(pause)
            for member in self._reports(launch, missing):
                tally = tally.found(member.id, member.result) if member.result else tally
        return tally

    def _reads_late(self, launch: Launch) -> bool:
        """Whether a receipt may come later than its machine's end is seen."""
        return False


def _at() -> str:
    return _now().isoformat(timespec="seconds")


def _now() -> datetime:
    return datetime.now(timezone.utc)

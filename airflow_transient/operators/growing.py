"""More machines for a launch that is under way: beside those that work, a refusal ends none of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_transient.core.words import launched_in_words
from airflow_transient.core.workers.tally import Tally
from airflow_transient.errors import TransientError
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.operators.telling import leave_launch

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.core.intent import Intent
    from airflow_transient.core.launch import Launch
    from airflow_transient.core.workers.spec import Shipped, WorkersSpec
    from airflow_transient.core.workers.turns import Turn
    from airflow_transient.operators.journal import Journal


class GrowingOperator(LaunchOperator):
    """The growths of a crew; when there is one is told where the queue is looked at."""

    @abstractmethod
    def _workers(self) -> WorkersSpec:
        """What the author says of the workers. Raises SpecError."""

    @abstractmethod
    def _with_worker(self, spec: Any, shipped: Shipped) -> Any:
        """The spec, now that it is known from where its machines get the worker."""

    def _client_factory(self) -> Any:
        return TransientHook(self.aws_conn_id, self.region_name).client

    def _grown(self, intent: Intent, count: int, reason: str) -> Intent:
        tally = Tally.from_dict(intent.kept).grown(count, reason, _at())
        return replace(intent.grown(count), kept=tally.to_dict())

    def _place(self, spec: Any, journal: Journal, launcher: Launcher, intent: Intent) -> Launch:
        from airflow_transient.aws.workers import ship

        workers = self._workers()
        if workers.worker is None:
            spec = self._with_worker(spec, ship(self._client_factory(), workers.results, spec.lifetime))
        return super()._place(spec, journal, launcher, intent)

    def _more(self, context: Context, journal: Journal, intent: Intent, turn: Turn) -> Launch:
        count = Tally.from_dict(intent.kept).at_most(turn.count) if turn.live else turn.count
        grown = self._grown(intent, count, turn.reason)
        journal.write(grown)
        self.log.info("%d more: %s", count, turn.reason)
        if turn.live:
            launch = self._beside(journal, intent, grown)
        else:
            spec = self._checked_spec()
            launch = self._launch(spec, journal, self._launcher(self._region_of(grown)), grown)
            self._arm_kill_schedule(spec, launch)
        leave_launch(context, launch)
        return launch

    def _beside(self, journal: Journal, before: Intent, grown: Intent, spec: Any = None) -> Launch:
        """More beside those that work: what refuses them neither ends these nor leaves them without a waiter."""
        try:
            spec = spec or self._checked_spec()
            launch = self._place(spec, journal, self._launcher(self._region_of(grown)), grown)
        except TransientError as error:
            return self._not_grown(journal, before, str(error), spec)
        had = before.launch.ids if before.launch else ()
        if not set(launch.ids) - set(had):
            return self._not_grown(journal, before, "there was no room for them in any pool", spec)
        self.log.info("%s", launched_in_words(launch))
        self._arm_kill_schedule(spec, launch)
        if (now := journal.last) and (tally := Tally.from_dict(now.kept)).refused:
            journal.write(replace(now, kept=tally.answered().to_dict()))
        return launch

    def _not_grown(self, journal: Journal, before: Intent, why: str, spec: Any) -> Launch:
        """As it was before, with those that may have come. A request without an answer is kept, to be asked again."""
        left = journal.last or before
        had, live = (intent.launch.ids if intent.launch else () for intent in (before, left))
        some_came = len(live) > len(had)
        tally = Tally.from_dict((left if some_came else before).kept).turned_down(why, _at())
        journal.write(replace(left.grown(0).complete(), kept=tally.to_dict()))
        again = tally.not_before(self._workers().interval)
        self.log.warning(
            "no more machines for now: %s. %d go on working and are waited for; more are asked for again %s",
            *(why, len(live), f"from {again:%H:%M:%S} UTC on" if again else "when none works any more"),
        )
        if some_came and left.launch:
            self._arm_kill_schedule(spec, left.launch)
        return left.launch  # type: ignore[return-value] # somebody works, so there is one

    def _found_late(self, intent: Intent) -> Intent | None:
        """With the machines of a growth that had no answer, where they have come after all. Raises TransientError."""
        if intent.asked is None or intent.launch is None:
            return None
        launch = self._launcher_of(intent.launch).adopt(intent.asked)
        known = {*intent.launch.ids, *(member.id for member in intent.ended)}
        came = [id for id in launch.ids if id not in known] if launch else []
        if launch is None or not came:
            return None
        self.log.info("%d more have come after all", len(came))
        intent = replace(intent, launch=launch.with_ids((*intent.launch.ids, *came)), request=None)
        return intent.grown(0).complete()

    def _guard_late(self, context: Context, launch: Launch) -> None:
        """What has come late is shown and ended at its deadline like the rest."""
        leave_launch(context, launch)
        try:
            self._arm_kill_schedule(self._checked_spec(), launch)
        except TransientError as error:  # the author's words may have become wrong since
            self.log.warning("no kill schedule for %s: %s", launch.token, error)


def _at() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

"""Run a burst of ECS tasks, as many as asked for or as a queue's depth asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_transient.core.depth import CLAIM_WINDOW, HARD_CAP, Size
from airflow_transient.core.ecs.spec import RULE_WORDS, EcsSpec, rule_of
from airflow_transient.core.fallback import Scope
from airflow_transient.core.intent import Intent, Refusal
from airflow_transient.core.verdict import Verdict
from airflow_transient.errors import CapacityError
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.links.ecs import FailedTaskLink, TaskLogLink, TasksLink
from airflow_transient.operators.journal import Journal
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.operators.literals import all_plain, all_written

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_transient.aws.launcher import Launcher
    from airflow_transient.core.launch import Launch

#: How often one try launches again what AWS never started or took back: each round costs money unseen.
MAX_ROUNDS = 3
SIZE_KEY = "size"


class EcsBurstOperator(LaunchOperator):
    """
    Launch as many ECS tasks as are needed, wait for all of them, return the verdict.

    Everything is templated unless it says otherwise. A wrong value raises ``SpecError`` before anything is launched,
    where the DAG file is parsed if no template is involved.

    The XCom ``return_value`` is a dict: ``outcome``, ``counts`` (outcome -> tasks), ``exit_codes`` (code -> tasks),
    ``failed`` (the worst 20: id, outcome, exit_code, evidence; log_tail of five), ``ids``, ``launched``, ``started``,
    ``ended`` (ISO 8601, UTC), ``billed_seconds`` (Fargate only, a minute a task at least), ``need``, ``members``. The
    XCom ``size`` says how many were wanted and why; ``launch`` is there while they run; ``verdict`` is there when the
    task fails: all but ``members``.

    Every container sees ``TRANSIENT_LAUNCH`` (the launch and the number of the attempt) and ``TRANSIENT_DEADLINE``
    (epoch seconds: ``start_timeout``, ``max_runtime`` and three minutes after it was asked for) in its environment.
    Which queue it works, it is not told: say it in ``overrides``; over several, ``.expand_kwargs()`` gives both.

    Beside the parameters below, those that all launches share (``LaunchOperator``): ``aws_conn_id``, ``region_name``,
    ``deferrable``, ``poll_interval``, ``on_kill``, ``retry_on_exit_codes``, ``fail_on_exit_codes``,
    ``skip_on_exit_codes``, ``retries``, ``retry_policy``.

    :param task_definition: family (its latest revision, pinned when it is launched), ``family:revision``, or ARN.
    :param cluster: name or ARN; default ``default``.
    :param queues: SQS queues whose depth says how many: one or several names, URLs or ARNs. Nothing in them: nothing is
        launched and the task is skipped. Not readable: the task fails, and nothing is launched on a guess.
    :param task_count: how many; with ``queues`` at least so many once there is work. Default 1.
    :param messages_per_task: one task for so many messages, rounded up. Default None: ``task_count``.
    :param max_count: at most so many of this job at once. Default ``hard_cap``.
    :param hard_cap: the limit of ``task_count`` and ``max_count``; default 50, at most 500.
    :param activation: a depth up to this launches nothing; default 0.
    :param count_in_flight: count what is being worked on, too; default False.
    :param count_delayed: count what is not yet visible, too; default False.
    :param top_up: True: what of this job is live counts, whichever run launched it; start only what is missing. Default
        False.
    :param strategy: ``"lag-aware"`` (default), ``"desired-state"`` (as the ECS Scheduler), ``"keda-default"``,
        ``"keda-accurate"``, ``"keda-eager"``: docs/depth.md.
    :param claim_seconds: how long after its start a task may not have received its ``messages_per_task``; default 90,
        of which up to 60 are the lag of SQS's counters. Raise it where a task takes them one by one.
    :param overrides: ECS's own dict, or container -> variables (``{"main": {"DAY": "{{ ds }}"}}``).
    :param launch_type: ``FARGATE``, ``EC2``, ``EXTERNAL`` or ``MANAGED_INSTANCES``; default: the cluster's capacity.
    :param capacity_provider_strategies: a list to try in order, such as ``["FARGATE_SPOT", "FARGATE"]``; an entry is a
        provider's name, one of ECS's strategy items, or a list of those. The next one is tried where one has no room,
        also when AWS gives up placing a task it had accepted, or takes it back.
    :param network_configuration: ECS's dict, or ``{"subnets": […], "securityGroups": […], "assignPublicIp": …}``.
    :param platform_version: of Fargate; default ``LATEST``.
    :param group: ECS task group; default ECS's own, ``family:…``.
    :param tags: for the tasks, beside our own.
    :param propagate_tags: True: the task definition's tags as well; default False.
    :param enable_execute_command: True: ``aws ecs execute-command`` may enter; default False.
    :param deciding_containers: the containers whose exit codes say how the job ended; default: the essential ones.
    :param min_success: how many must succeed: a number, or a share such as ``0.9`` or ``"90%"``; default all. A
        number is at most as many as there are.
    :param stop_on_failure: True: once too few are left for ``min_success``, stop the rest; default False.
    :param max_runtime: timedelta, or seconds, of each task from its start; default 1 h, at most 14 days. ECS has no
        timeout of its own: the wait enforces it, the reaper where nobody waits, and ``kill_schedule_role``'s schedule.
    :param start_timeout: timedelta, or seconds; how long a task may take to start; default 35 min: AWS itself gives up
        placing one after about 30.
    :param kill_schedule_role: ARN of a role that EventBridge Scheduler may use to call ecs:StopTask: each task then
        gets a one-time schedule that stops it at the launch's deadline.
    :param wait_for_completion: False: launch what there is room for, and return ``ids``, ``token`` and ``deadline`` at
        once; the reaper and the schedule enforce the deadline. Default True; not templated.
    """

    kind = "ecs"
    ui_color = "#9ccfd8"
    operator_extra_links = (TasksLink(), FailedTaskLink(), TaskLogLink())
    template_fields: Collection[str] = (
        "task_definition",
        "cluster",
        "queues",
        "task_count",
        "messages_per_task",
        "max_count",
        "hard_cap",
        "activation",
        "count_in_flight",
        "count_delayed",
        "top_up",
        "strategy",
        "claim_seconds",
        "overrides",
        "launch_type",
        "capacity_provider_strategies",
        "network_configuration",
        "platform_version",
        "group",
        "tags",
        "propagate_tags",
        "enable_execute_command",
        "deciding_containers",
        "min_success",
        "stop_on_failure",
        "max_runtime",
        "start_timeout",
        "kill_schedule_role",
        "aws_conn_id",
        "region_name",
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow reads it from the class
        "overrides": "json",
        "network_configuration": "json",
        "tags": "json",
    }

    def __init__(
        self,
        *,
        task_definition: str,
        cluster: str | None = "default",
        queues: str | Sequence[str] | None = None,
        task_count: int | str = 1,
        messages_per_task: int | str | None = None,
        max_count: int | str | None = None,
        hard_cap: int | str = HARD_CAP,
        activation: int | str = 0,
        count_in_flight: bool | str = False,
        count_delayed: bool | str = False,
        top_up: bool | str = False,
        strategy: str = "lag-aware",
        claim_seconds: int | str = int(CLAIM_WINDOW.total_seconds()),
        overrides: dict[str, Any] | list[dict[str, Any]] | None = None,
        launch_type: str | None = None,
        capacity_provider_strategies: str | Sequence[Any] | None = None,
        network_configuration: dict[str, Any] | None = None,
        platform_version: str | None = None,
        group: str | None = None,
        tags: dict[str, str] | None = None,
        propagate_tags: bool | str = False,
        enable_execute_command: bool | str = False,
        deciding_containers: str | Sequence[str] | None = None,
        min_success: float | str = 1.0,
        stop_on_failure: bool | str = False,
        max_runtime: timedelta | float | str = timedelta(hours=1),
        start_timeout: timedelta | float | str = timedelta(minutes=35),
        kill_schedule_role: str | None = None,
        wait_for_completion: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task_definition = task_definition
        self.cluster = cluster
        self.queues = queues
        self.task_count = task_count
        self.messages_per_task = messages_per_task
        self.max_count = max_count
        self.hard_cap = hard_cap
        self.activation = activation
        self.count_in_flight = count_in_flight
        self.count_delayed = count_delayed
        self.top_up = top_up
        self.strategy = strategy
        self.claim_seconds = claim_seconds
        self.overrides = overrides
        self.launch_type = launch_type
        self.capacity_provider_strategies = capacity_provider_strategies
        self.network_configuration = network_configuration
        self.platform_version = platform_version
        self.group = group
        self.tags = tags
        self.propagate_tags = propagate_tags
        self.enable_execute_command = enable_execute_command
        self.deciding_containers = deciding_containers
        self.min_success = min_success
        self.stop_on_failure = stop_on_failure
        self.max_runtime = max_runtime
        self.start_timeout = start_timeout
        self.kill_schedule_role = kill_schedule_role
        self.wait_for_completion = wait_for_completion
        self._check_literals()

    def _check_literals(self) -> None:
        """What is wrong already as it is written is said where the DAG file is parsed."""
        words = self._words()
        rule = {name: words[name] for name in RULE_WORDS}
        if all_written(rule):
            rule_of(all_plain(rule))
        if all_written(words):
            EcsSpec.of(**all_plain(words))

    def make_spec(self) -> EcsSpec:
        return replace(EcsSpec.of(**all_plain(self._words())), unattended=not self.wait_for_completion)

    def sized(self, context: Context, spec: Any, journal: Journal, intent: Intent) -> tuple[Any, Intent]:
        """As many as were wanted when this launch was sized, or as many as are wanted now."""
        if intent.wanted is None:
            now = self._size(spec, journal, again=intent.generation > 1)
            context["ti"].xcom_push(SIZE_KEY, now.to_dict())
            if not now.count:
                raise AirflowSkipException(f"nothing to launch: {now.reason}")
            self.log.info("%d wanted: %s", now.count, now.reason)
            intent = replace(intent, wanted=now.count)
        return replace(spec, count=intent.to_place), intent

    def _size(self, spec: EcsSpec, journal: Journal, again: bool = False) -> Size:
        from airflow_transient.aws.sizing import size_burst

        client = TransientHook(self.aws_conn_id, self.region_name).client
        return size_burst(client, spec, journal.owner, datetime.now(timezone.utc), again)

    def settle(self, journal: Journal, intent: Intent, verdict: Verdict) -> tuple[Intent | None, Verdict]:
        """
        One more round where what is missing could still make it enough, and there is a round left.

        A burst that a queue has sized is sized again: what nobody has worked on may have been worked on since.
        """
        lacking, wanted = intent.to_place, intent.wanted or 0
        if verdict.enough or not lacking or verdict.succeeded + lacking < (verdict.need or 0):
            return None, verdict
        spec = self.make_spec()
        if spec.sized:
            now = self._size(spec, journal, again=True)
            self.log.info("%d of %d did not run to an end; now: %s", lacking, wanted, now.reason)
            wanted -= max(0, lacking - now.count)
            verdict = replace(verdict, need=min(verdict.need or wanted, max(1, spec.need(wanted))))
        if verdict.enough or wanted == (intent.wanted or 0) - lacking:
            return None, verdict
        again = intent.again(wanted, verdict.need, _moved_on(spec, intent))
        if again.rounds > MAX_ROUNDS:
            journal.write(again)
            raise CapacityError(f"launch {verdict.token}: {_why_missing(intent, verdict)} in {MAX_ROUNDS} rounds")
        self.log.warning("launching %d again: %s", again.to_place, _why_missing(intent, verdict))
        return again, verdict

    def _wait(self, context: Context, journal: Journal, launcher: Launcher, launch: Launch, here: bool = False) -> Any:
        if self.wait_for_completion:
            return super()._wait(context, journal, launcher, launch, here)
        return launched(launch, journal.last)


def launched(launch: Launch, intent: Intent | None) -> dict[str, Any]:
    """What a task tells that does not wait for what it has launched."""
    said = launch.to_dict()
    told = {name: said[name] for name in ("token", "ids", "region", "deadline")}
    return {"outcome": "launched", "wanted": intent.wanted if intent else None, **told}


def _moved_on(spec: EcsSpec, intent: Intent) -> tuple[Refusal, ...]:
    """The pools that took tasks and did not start or keep them, where that leaves another one to go to."""
    last = intent.pool.market if intent.pool else ""
    gone = {member.capacity or last for member in intent.ended if member.missed is Scope.POOL}
    refused = [pool for pool in spec.pools() if pool.market in gone or gone & set(spec.providers(pool))]
    if len(refused) == len(spec.pools()):
        return ()
    return tuple(Refusal(pool, Scope.POOL, "took tasks, and did not start or keep them") for pool in refused)


def _why_missing(intent: Intent, verdict: Verdict) -> str:
    """How many did not run to an end, and what AWS says of those that it took."""
    said = Counter(m.evidence for m in verdict.members if m.missed)
    told = "; ".join(f"{count} {words}" for words, count in said.most_common(3))
    return f"{intent.to_place} of {intent.wanted} did not run to an end ({told or 'there was no room for them'})"

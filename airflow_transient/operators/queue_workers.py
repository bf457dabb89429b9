"""Work an SQS queue off, on machines that grow with it and end themselves: EC2 instances, or ECS tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from airflow_transient.core.ecs.spec import RULE_WORDS, EcsSpec
from airflow_transient.core.ecs.words import check_overrides
from airflow_transient.core.launch import Launch
from airflow_transient.core.reading import text
from airflow_transient.core.verdict import Member
from airflow_transient.core.workers.spec import Shipped, WorkerMachines
from airflow_transient.errors import SpecError
from airflow_transient.operators.crew import WORDS, CrewOperator
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.ecs import EcsBurstOperator
from airflow_transient.operators.literals import all_plain

_NOT_OF_MACHINES = ("aws_conn_id", "region_name", "queues", "command", "script", "count", *RULE_WORDS)
#: In a spec that is only looked at, in the place of what is signed when something is launched.
UNSIGNED = Shipped("https://worker", "0" * 64)


def _fields(operator: type[Any]) -> tuple[str, ...]:
    """The words of a launch without those that the queue decides; and the connection's, which stay last."""
    own = tuple(name for name in operator.template_fields if name not in (*_NOT_OF_MACHINES, *WORDS))
    return (*WORDS, *own, "aws_conn_id", "region_name")


class QueueWorkersOperator(CrewOperator, TransientEc2Operator):
    """
    Start instances that work a queue off, more while it grows, and wait until it is drained and all have ended.

    Each machine fetches the worker (docs/worker.md) and works until the queue has stayed empty for ``idle_timeout``;
    then it terminates itself. No machine is ended while it works. The queue decides and no exit code: the task succeeds
    when the queue is drained (nothing visible, in flight or delayed, on two readings ``interval`` apart), all machines
    have ended, and no more than ``max_dead_letters`` messages have failed for good. A queue that is and stays empty at
    the start skips the task.

    The XCom ``return_value`` is that of ``TransientEc2Operator`` without ``result``, and ``messages`` (``processed``,
    ``failed`` tries, ``dead_lettered``, ``interrupted``), ``machines``, ``machine_seconds``, ``unreported`` (machines
    that left no receipt, such as one that was killed: what they did is in no sum), ``bytes_in``, ``bytes_out``,
    ``growth`` (a list of ``at``, ``count``, ``reason``), ``problems``, ``queue``. The XCom ``verdict`` is there when
    the task fails.

    All words of ``TransientEc2Operator`` (and ``LaunchOperator``) but ``command``, ``script`` and ``count`` are words
    here: ``image_id`` …, ``instance_type``, ``instance_profile``, ``market``, ``max_runtime``, ``results`` and so on.
    The machines' role needs what docs/worker.md says. Everything is templated unless it says otherwise.

    :param sqs_queue: name, URL or ARN. It has a redrive policy, or ``worker_options`` names a ``--dead-letter`` queue.
    :param command: a list of arguments, run as ``command INPUT OUTPUT [parameters of the message]`` without a shell;
        or text for ``sh``, which finds them as ``$1``, ``$2`` ….
    :param results: ``s3://bucket/prefix``, required: for receipts and logs, and machines fetch the worker from there.
    :param failures: ``s3://bucket/prefix`` for an object per recorded failure; default ``results`` and ``failures``.
    :param processes: messages worked on at a time on each machine, 1 (default) to 256.
    :param messages_per_process: one machine for so many messages a process, rounded up; default 100.
    :param max_count: machines at once, at most; default 10.
    :param interval: timedelta, or seconds, between two readings of the queue; default 60: SQS's counters lag so much.
    :param idle_timeout: timedelta, or seconds, that the queue stays empty before a machine ends; default 60.
    :param job_timeout: timedelta, or seconds; of one try of one message; default 1 h, at most 11 h 50 min.
    :param max_dead_letters: more messages in the dead letter queue fail the task; default 0; None: any number is fine.
    :param worker_options: further options of the worker, such as ``["--max-failures", "5", "--no-output"]``.
    :param max_runtime: of each machine, as of any launch; default 1 h. What it works on then goes back to the queue.
    """

    template_fields: Collection[str] = _fields(TransientEc2Operator)
    template_fields_renderers = {"environment": "json", "tags": "json"}  # noqa: RUF012 - Airflow reads it from the class

    def make_spec(self) -> Any:
        words = {name: getattr(self, name) for name in self.template_fields if name not in _NOT_OF_MACHINES}
        return WorkerMachines.of(**all_plain(words) | {"script": self._workers().machine_script(UNSIGNED)})

    def _with_worker(self, spec: Any, shipped: Shipped) -> Any:
        return replace(spec, script=self._workers().machine_script(shipped))


class EcsQueueWorkersOperator(CrewOperator, EcsBurstOperator):
    """
    ``QueueWorkersOperator`` with ECS tasks in the place of instances.

    The words of the workers are the same. All words of ``EcsBurstOperator`` but those that say how many tasks, and
    ``min_success``, ``stop_on_failure`` and ``wait_for_completion``, are words here: ``task_definition``, ``cluster``,
    ``capacity_provider_strategies`` and so on. ``results`` is needed here, too.

    Receipts are read from the container's log: without the ``awslogs`` driver and its stream prefix all tasks are
    ``unreported``, and ``max_dead_letters`` cannot be checked.

    :param container: the name of the container that works; default ``main``. It has python3 and boto3 and no entry
        point; its command is replaced, its role is the task role.
    :param worker: path of worker.py in its image; default None: it is fetched when the task starts.
    """

    template_fields: Collection[str] = (
        *(name for name in _fields(EcsBurstOperator) if name not in ("min_success", "stop_on_failure")),
        "container",
        "worker",
    )

    def __init__(self, *, container: str = "main", worker: str | None = None, **kwargs: Any) -> None:
        given = {"min_success", "stop_on_failure", "wait_for_completion", "claim_seconds"} & set(kwargs)
        if given:
            raise SpecError(f"{', '.join(sorted(given))}: the queue says when it is over, and no task's end")
        super().__init__(**kwargs)
        self.container = container
        self.worker = worker

    def _check_literals(self) -> None:
        """Nothing yet: the words of the workers are there once the construction is over."""

    def make_spec(self) -> Any:
        ours = {*_NOT_OF_MACHINES, *WORDS, "container", "worker"}
        words = {name: getattr(self, name) for name in self.template_fields if name not in ours}
        spec = EcsSpec.of(**all_plain(words) | {"min_success": 0.0})
        return self._with_worker(spec, UNSIGNED)

    @property
    def _container(self) -> str:
        return text(self.container, "container") or "main"

    def _with_worker(self, spec: Any, shipped: Shipped) -> Any:
        """What the author says of the container stays, but for its command."""
        name = self._container
        made = self._workers().container_override(name, shipped)
        said = {each["name"]: each for each in spec.overrides.get("containerOverrides", ())}
        theirs: dict[str, Any] = said.pop(name, {})
        mine = {pair["name"] for pair in made.get("environment", ())}
        kept = [pair for pair in theirs.get("environment", ()) if pair["name"] not in mine]
        whole = {**theirs, **made, "environment": [*kept, *made.get("environment", ())]}
        overrides = {**spec.overrides, "containerOverrides": [*said.values(), whole]}
        check_overrides(overrides)
        return replace(spec, overrides=overrides)

    def _reports(self, launch: Launch, members: Iterable[Member]) -> tuple[Member, ...]:
        from airflow_transient.aws.workers import receipt_in_log

        client = self._client_factory()
        return tuple(replace(m, result=receipt_in_log(client, launch, m.id, self._container)) for m in members)

    def _reads_late(self, launch: Launch) -> bool:
        return bool(launch.ecs and launch.ecs.logs)

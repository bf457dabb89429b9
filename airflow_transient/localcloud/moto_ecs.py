"""moto's ECS made to run tasks: its actions about tasks are ours, everything else (clusters, definitions) its own.

Without this moto steps a task's status at each look, gives every exit code as 0, and never answers with failures.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_transient.localcloud import ecs_book, ecs_rules, fault_answers, moto_needs, moto_reads
from airflow_transient.localcloud.container_python import ContainerPython
from airflow_transient.localcloud.ecs_book import Conflict, TaskBook
from airflow_transient.localcloud.ecs_tasks import FARGATE, HOST_LOST, INTERRUPTED, Definition, Place, Task
from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.moto_reads import ACCOUNT, MotoRegion
from airflow_transient.localcloud.sandbox_runner import SandboxRunner
from airflow_transient.localcloud.task_run import Around
from airflow_transient.localcloud.task_troubles import Trouble

Seam = tuple[Any, str, Any]
NO_CLUSTER = ("ClusterNotFoundException", "Cluster not found.")
NO_DEFINITION = ("ClientException", "TaskDefinition not found.")
NO_TASK = ("InvalidParameterException", "The referenced task was not found.")


@dataclass
class Ecs:
    book: TaskBook
    faults: Faults
    outputs: moto_needs.Outputs
    _opened: set[str] = field(default_factory=set)
    _addresses: Any = field(default_factory=lambda: itertools.count(10))

    def seams(self) -> list[Seam]:
        from moto.ecs.responses import EC2ContainerServiceResponse as Response

        ours = (self.run_task, self.describe_tasks, self.list_tasks, self.stop_task)
        seams: list[Seam] = [(Response, each.__name__, _speaking(each)) for each in ours]
        seams.append((Response, "describe_clusters", self._counting(Response.describe_clusters)))
        seams.append((Response, "delete_cluster", _speaking(self._sparing(Response.delete_cluster))))
        return seams

    def open(self, region: str) -> None:
        """Every region has a cluster that nobody made."""
        if region not in self._opened:
            self._opened.add(region)
            _backend(region).create_cluster("default", capacity_providers=list(FARGATE))

    # --- the actions ------------------------------------------------------------------------------------

    def run_task(self, response: Any) -> Any:
        request = dict(response.params)
        ecs_rules.shape(request)
        with self.book.lock:
            cluster = self._cluster(response)
            before = self.book.recall(cluster, request)
            if before is not None:
                return _result(tasks=[task.describe(tags=True) for task in before.tasks], failures=before.failures)
            tasks, failures = self._run(response, cluster, request)
            self.book.remember(cluster, request, tasks, failures)
        return _result(tasks=[task.describe(tags=True) for task in tasks], failures=failures)

    def _run(self, response: Any, cluster: ecs_book.Cluster, request: dict[str, Any]) -> tuple[list[Task], Any]:
        backend = response.ecs_backend
        moto_cluster = backend.clusters[cluster[1]]
        definition = _definition(backend, request["taskDefinition"])
        network = MotoRegion(moto_reads.ec2(response.region))
        ecs_rules.run_task(request, definition, tuple(moto_cluster.capacity_providers or ()), network)
        strategy = request.get("capacityProviderStrategy")
        if not strategy and not request.get("launchType"):
            strategy = moto_cluster.default_capacity_provider_strategy
        count = int(request.get("count", 1))
        providers = ecs_rules.spread(strategy, count) if strategy else [None] * count
        return self._place(cluster, definition, request, providers, network)

    def _place(
        self,
        cluster: ecs_book.Cluster,
        definition: Definition,
        request: Mapping[str, Any],
        providers: list[Any],
        network: MotoRegion,
    ) -> tuple[list[Task], list[dict[str, str]]]:
        pools = [each or ecs_rules.launch_type(request, None) for each in providers]
        reasons = self.faults.task_room(pools)
        tasks = []
        for provider, pool, reason in zip(providers, pools, reasons, strict=True):
            if reason is None:
                place = self._address(cluster, request, provider, network)
                trouble = self.faults.next_task(pool)
                task = self.book.launch(definition, place, request, Trouble(*trouble))
                _backend(cluster[0]).tasks.setdefault(cluster[1], {})[task.task_arn] = task  # for moto's tagging
                tasks.append(task)
        return tasks, [_failure(cluster, reason) for reason in reasons if reason is not None]

    def _address(
        self, cluster: ecs_book.Cluster, request: Mapping[str, Any], provider: str | None, network: MotoRegion
    ) -> Place:
        words = (request.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        number = next(self._addresses)
        subnets = words.get("subnets") or [""]
        subnet = subnets[number % len(subnets)]
        zone = network.zone_of(subnet) or ""
        ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        kind = ecs_rules.launch_type(request, provider)
        return Place(cluster[0], ACCOUNT, cluster[1], kind, provider, subnet, zone, ip)

    def describe_tasks(self, response: Any) -> Any:
        request = response.params
        cluster = self._cluster(response)
        ecs_rules.describe_tasks(request)
        tags = "TAGS" in (request.get("include") or ())
        found, missing = [], []
        for name in dict.fromkeys(request["tasks"]):
            task = self.book.find(cluster, name)
            if task is None or self._unknown(task):
                missing.append({"arn": _full(name, cluster), "reason": "MISSING"})
            else:
                found.append(task.describe(tags=tags))
        return _result(tasks=found, failures=missing)

    def _unknown(self, task: Task) -> bool:
        """ECS is eventually consistent, and a new task may be missing for some seconds."""
        return self.faults.task_unknown(time.time() - task.times["createdAt"].timestamp())

    def list_tasks(self, response: Any) -> Any:
        request = response.params
        cluster = self._cluster(response)
        ecs_rules.list_tasks(request)
        arns = [task.task_arn for task in self.book.listed(cluster, request) if not self._unknown(task)]
        shown, token = ecs_book.page(arns, request)
        return _result(taskArns=shown, nextToken=token)

    def stop_task(self, response: Any) -> Any:
        task = self.book.find(self._cluster(response), str(response.params.get("task") or ""))
        if task is None:
            raise Refused(*NO_TASK)
        self.book.stop(task, response.params.get("reason"))
        return _result(task=task.describe())

    def _cluster(self, response: Any) -> ecs_book.Cluster:
        name = str(response.params.get("cluster") or "default").rpartition("/")[2]
        self.open(response.region)
        if name not in response.ecs_backend.clusters:
            raise Refused(*NO_CLUSTER)
        return response.region, name

    # --- clusters ---------------------------------------------------------------------------------------

    def _counting(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        """moto: the counts of Fargate tasks are always 0."""

        def describe_clusters(response: Any) -> Any:
            self.open(response.region)
            for name, cluster in response.ecs_backend.clusters.items():
                statuses = [task.status for task in self.book.of((response.region, name))]
                cluster.running_tasks_count = statuses.count("RUNNING")
                cluster.pending_tasks_count = sum(each in ("PROVISIONING", "PENDING") for each in statuses)
            return describe(response)

        return describe_clusters

    def _sparing(self, delete: Callable[..., Any]) -> Callable[..., Any]:
        def delete_cluster(response: Any) -> Any:
            if any(task.status != "STOPPED" for task in self.book.of(self._cluster(response))):
                words = "The Cluster cannot be deleted while Tasks are active."
                raise Refused("ClusterContainsTasksException", words)
            return delete(response)

        return delete_cluster

    # --- on a bad day -------------------------------------------------------------------

    def interrupt(self, arn: str) -> None:
        self.book.end(self._any(arn), INTERRUPTED)

    def fail_host(self, arn: str) -> None:
        self.book.fail(self._any(arn), HOST_LOST)

    def _any(self, arn: str) -> Task:
        task = self.book.anywhere(arn)
        if task is None:
            raise KeyError(f"no task {arn} in this cloud")
        return task


def made(
    runner: SandboxRunner, python: ContainerPython, faults: Faults, delay: float = 0.0, memory: float | None = None
) -> Ecs:
    outputs = moto_needs.Outputs()
    around = Around(runner.host, python, outputs.sink, moto_needs.secrets, moto_needs.keys, delay)
    return Ecs(TaskBook(runner, around, memory), faults, outputs)


def _backend(region: str) -> Any:
    from moto.ecs.models import ecs_backends

    return ecs_backends[ACCOUNT][region]


def _definition(backend: Any, name: str) -> Definition:
    """By ARN, family:revision, or the family's latest active one."""
    family, _, revision = name.rpartition("/")[2].partition(":")
    revisions = backend.task_definitions.get(family, {})
    active = [number for number, each in revisions.items() if each.status == "ACTIVE"]
    number = int(revision) if revision.isdigit() else max(active, default=0)
    found = revisions.get(number)
    if found is None:
        raise Refused(*NO_DEFINITION)
    if found.status != "ACTIVE":
        raise Refused("ClientException", "TaskDefinition is inactive")
    return Definition(
        arn=found.arn,
        family=family,
        revision=number,
        containers=tuple(found.container_definitions),
        network_mode=found.network_mode,
        requires=tuple(found.requires_compatibilities or ()),
        cpu=found.cpu,
        memory=found.memory,
        role=getattr(found, "task_role_arn", None),
        tags=tuple(found.tags or ()),
    )


def _failure(cluster: ecs_book.Cluster, reason: str) -> dict[str, str]:
    if ":" not in reason and reason not in ("AGENT", "LOCATION", "ATTRIBUTE"):
        return {"reason": reason}
    # These are said of the container instance that was looked at.
    arn = f"arn:aws:ecs:{cluster[0]}:{ACCOUNT}:container-instance/{cluster[1]}/{'0' * 32}"
    return {"arn": arn, "reason": reason}


def _full(name: str, cluster: ecs_book.Cluster) -> str:
    return name if name.startswith("arn:") else f"arn:aws:ecs:{cluster[0]}:{ACCOUNT}:task/{cluster[1]}/{name}"


def _result(**words: Any) -> Any:
    from moto.core.responses import ActionResult

    return ActionResult({name: value for name, value in words.items() if value is not None})


def _speaking(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Our refusals, in moto's tongue."""

    def speaking(response: Any) -> Any:
        from moto.ecs.exceptions import ECSException

        try:
            return action(response)
        except Refused as refusal:
            if refusal.code == "ThrottlingException":  # not in ECS's model, of which moto would warn
                answer = fault_answers.answer(refusal, "json")
                return answer.body.decode(), {"status": refusal.status, **dict(answer.headers)}
            error: Any = ECSException(refusal.code, refusal.message)
            if isinstance(refusal, Conflict):
                error.resource_ids = refusal.arns
            raise error from None

    return speaking

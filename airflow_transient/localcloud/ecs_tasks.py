"""One task as ECS tells of it: what was asked, where it stands, how it ended. It starts nothing and waits for nothing.

Law: whatever changes a task holds its lock, counts its version up and is told to `changed`; the first ending counts.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from airflow_transient.localcloud.ecs_containers import Ending, Phase, Rule, State, all_started, rules

FARGATE = ("FARGATE", "FARGATE_SPOT")
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/platform-fargate.html: what LATEST is.
PLATFORM = "1.4.0"
USER_STOPPED = "Task stopped by user"
INTERRUPTED = Ending("SpotInterruption", "Your Spot Task was interrupted.")
# The code is AWS's; its words for a lost Fargate host are not documented.
HOST_LOST = Ending("InfrastructureHealth", "The infrastructure that hosted the task failed.")


@dataclass(frozen=True)
class Definition:
    """A task definition's revision, as far as running it goes."""

    arn: str
    family: str
    revision: int
    containers: tuple[Mapping[str, Any], ...]
    network_mode: str = "awsvpc"
    requires: tuple[str, ...] = ()
    cpu: str | None = None
    memory: str | None = None
    role: str | None = None
    tags: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a task runs: one subnet's zone, one address; the provider is None where a launch type was asked for."""

    region: str
    account: str
    cluster: str
    launch_type: str
    provider: str | None = None
    subnet: str = ""
    zone: str = ""
    ip: str = "10.0.0.2"


@dataclass
class Container:
    """rule and words: of the definition with the overrides laid over."""

    rule: Rule
    words: Mapping[str, Any]
    arn: str
    runtime_id: str
    state: State = field(default_factory=State)
    reason: str = ""


class Task:
    def __init__(
        self,
        definition: Definition,
        place: Place,
        request: Mapping[str, Any],
        lock: threading.RLock,
        changed: Callable[[Task], None],
    ) -> None:
        self.definition, self.place, self.request = definition, place, request
        self.lock, self._changed = lock, changed
        self.id = uuid.uuid4().hex
        base = f"arn:aws:ecs:{place.region}:{place.account}"
        self.task_arn = f"{base}:task/{place.cluster}/{self.id}"
        self.cluster_arn = f"{base}:cluster/{place.cluster}"
        self.overrides: Mapping[str, Any] = request.get("overrides") or {}
        self.tags = _tags(definition, request)
        self.containers = self._containers(base)
        self.status, self.desired, self.version = "PROVISIONING", "RUNNING", 1
        self.times: dict[str, datetime] = {"createdAt": _now()}
        self.ending: Ending | None = None
        self.credentials_id = str(uuid.uuid4())
        self._attachment, self._eni = str(uuid.uuid4()), f"eni-{uuid.uuid4().hex[:17]}"
        changed(self)

    def _containers(self, base: str) -> list[Container]:
        made = []
        overrides = {each["name"]: each for each in self.overrides.get("containerOverrides") or ()}
        for rule, words in zip(rules(self.definition.containers), self.definition.containers, strict=True):
            arn = f"{base}:container/{self.place.cluster}/{self.id}/{uuid.uuid4()}"
            merged = _overridden(words, overrides.get(rule.name, {}))
            made.append(Container(rule, merged, arn, f"{self.id}-{uuid.uuid4().int % 10**10:010d}"))
        return made

    @property
    def rules(self) -> list[Rule]:
        return [each.rule for each in self.containers]

    @property
    def states(self) -> dict[str, State]:
        return {each.rule.name: each.state for each in self.containers}

    @property
    def role(self) -> str | None:
        return self.overrides.get("taskRoleArn") or self.definition.role

    @property
    def started_by(self) -> str:
        return str(self.request.get("startedBy") or "")

    def named(self, name: str) -> Container:
        return next(each for each in self.containers if each.rule.name == name)

    # --- what happens to it -----------------------------------------------------------------------------

    def become(self, status: str, *stamps: str) -> None:
        with self.lock:
            self.status = status
            self.times.update({stamp: _now() for stamp in stamps})
            self.version += 1
            self._changed(self)

    def starting(self, name: str) -> None:
        self.named(name).state = State(Phase.STARTING)

    def started(self, name: str) -> None:
        with self.lock:
            self.named(name).state = State(Phase.RUNNING, ran=True)
            self.running_when_all_are()

    def ended(self, name: str, code: int) -> None:
        with self.lock:
            self.named(name).state = State(Phase.STOPPED, code, ran=True)
            self.times["executionStoppedAt"] = _now()  # the last one's stays
            self.running_when_all_are()

    def failed(self, name: str, reason: str, *, ends: bool) -> None:
        """It could not be started. ends: so the task is over, when the container is essential."""
        with self.lock:
            container = self.named(name)
            container.state, container.reason = State(Phase.STOPPED), reason
            if ends and container.rule.essential:
                self.end(Ending("TaskFailedToStart", reason))

    def running_when_all_are(self) -> None:
        if self.status in ("PENDING", "ACTIVATING") and self.ending is None and all_started(self.states):
            self.become("ACTIVATING")
            self.become("RUNNING", "startedAt")

    def end(self, ending: Ending) -> None:
        with self.lock:
            if self.ending is None:
                self.ending, self.desired = ending, "STOPPED"
                stopping = any(each.phase is Phase.RUNNING for each in self.states.values())
                if stopping:
                    self.become("DEACTIVATING", "stoppingAt")
                self.become("STOPPING" if stopping else "DEPROVISIONING", "stoppingAt")

    def over(self) -> None:
        """Nothing of it runs any more."""
        with self.lock:
            self.end(HOST_LOST)
            for each in self.containers:
                if each.state.phase is not Phase.STOPPED:
                    each.state = State(Phase.STOPPED)
            if any(each.ran for each in self.states.values()):
                self.times.setdefault("executionStoppedAt", _now())
            if self.status != "DEPROVISIONING":
                self.become("DEPROVISIONING")
            self.become("STOPPED", "stoppedAt")

    # --- what is told of it -----------------------------------------------------------------------------

    def describe(self, *, tags: bool = False) -> dict[str, Any]:
        with self.lock:
            said: dict[str, Any] = {
                **self._asked(),
                **self.times,
                "taskArn": self.task_arn,
                "clusterArn": self.cluster_arn,
                "lastStatus": self.status,
                "desiredStatus": self.desired,
                "containers": [self._container(each) for each in self.containers],
                "attachments": self._attachments(),
                "healthStatus": "UNKNOWN",
                "version": self.version,
            }
            if self.ending is not None:
                said |= {"stopCode": self.ending.code, "stoppedReason": self.ending.reason}
            if "pullStartedAt" in self.times:
                said |= {"connectivity": "CONNECTED", "connectivityAt": self.times["pullStartedAt"]}
            return {**said, "tags": list(self.tags)} if tags else said

    def _asked(self) -> dict[str, Any]:
        definition, place = self.definition, self.place
        named = [{"name": each.rule.name} for each in self.containers]
        said = {
            "taskDefinitionArn": definition.arn,
            "group": self.request.get("group") or f"family:{definition.family}",
            "startedBy": self.started_by or None,
            "launchType": place.launch_type,
            "capacityProviderName": place.provider,
            "availabilityZone": place.zone or None,
            "cpu": self.overrides.get("cpu") or definition.cpu or str(self._sum("cpu")),
            "memory": self.overrides.get("memory") or definition.memory or str(self._sum("memory")),
            "enableExecuteCommand": bool(self.request.get("enableExecuteCommand")),
            "overrides": {"containerOverrides": named, "inferenceAcceleratorOverrides": [], **self.overrides},
        }
        if place.launch_type == "FARGATE":
            said |= {"platformVersion": _platform(self.request), "platformFamily": "Linux"}
        return {name: value for name, value in said.items() if value is not None}

    def _sum(self, name: str) -> int:
        return sum(int(each.words.get(name) or 0) for each in self.containers)

    def _container(self, container: Container) -> dict[str, Any]:
        words, state = container.words, container.state
        said = {
            "containerArn": container.arn,
            "taskArn": self.task_arn,
            "name": container.rule.name,
            "image": words["image"],
            "lastStatus": "PENDING" if state.phase is Phase.STARTING else state.phase.value,
            "healthStatus": "UNKNOWN",
            "networkBindings": [],
            "networkInterfaces": [{"attachmentId": self._attachment, "privateIpv4Address": self.place.ip}],
            "cpu": str(words.get("cpu") or 0),
        }
        known = {
            "runtimeId": container.runtime_id if state.ran else None,
            "exitCode": state.code,
            "reason": container.reason or None,
            "memory": str(words["memory"]) if words.get("memory") else None,
        }
        return {**said, **{name: value for name, value in known.items() if value is not None}}

    def _attachments(self) -> list[dict[str, Any]]:
        if self.definition.network_mode != "awsvpc":
            return []
        status = {"PROVISIONING": "PRECREATED", "STOPPED": "DELETED"}.get(self.status, "ATTACHED")
        details = {
            "subnetId": self.place.subnet,
            "networkInterfaceId": self._eni,
            "macAddress": "0a:00:" + ":".join(self.id[at : at + 2] for at in (0, 2, 4, 6)),
            "privateDnsName": self.hostname,
            "privateIPv4Address": self.place.ip,
        }
        listed = [{"name": name, "value": value} for name, value in details.items()]
        return [
            {"id": self._attachment, "type": "ElasticNetworkInterface", "status": status, "details": listed},
        ]

    @property
    def hostname(self) -> str:
        return f"ip-{self.place.ip.replace('.', '-')}.{self.place.region}.compute.internal"


def _overridden(words: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    environment = {each["name"]: each["value"] for each in words.get("environment") or ()}
    environment |= {each["name"]: each["value"] for each in override.get("environment") or ()}
    taken = {name: override[name] for name in ("command", "cpu", "memory", "memoryReservation") if name in override}
    return {**words, **taken, "environment": environment}


def _tags(definition: Definition, request: Mapping[str, Any]) -> list[dict[str, str]]:
    found = {each["key"]: each.get("value", "") for each in request.get("tags") or ()}
    if request.get("propagateTags") == "TASK_DEFINITION":
        found = {**{each["key"]: each.get("value", "") for each in definition.tags}, **found}
    return [{"key": key, "value": value} for key, value in found.items()]


def _platform(request: Mapping[str, Any]) -> str:
    wanted = request.get("platformVersion") or "LATEST"
    return PLATFORM if wanted == "LATEST" else str(wanted)


def _now() -> datetime:
    return datetime.now(timezone.utc)

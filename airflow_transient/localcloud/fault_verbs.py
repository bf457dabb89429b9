"""What one can say of a cloud that is to fail: each verb makes a Fault and answers with it.

It prints, it can be removed, and its hits are counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from airflow_transient.localcloud.errors import FaultError
from airflow_transient.localcloud.fault_rules import Fault


class FaultVerbs(ABC):
    """The verbs. An action is AWS's name: "RunInstances", "Describe*", or "sqs:ReceiveMessage"."""

    def error(
        self,
        action: str,
        code: str,
        *,
        status: int | None = None,
        message: str | None = None,
        times: int | None = None,
        probability: float = 1.0,
        zone: str | None = None,
        instance_type: str | None = None,
        region: str | None = None,
        market: str | None = None,
    ) -> Fault:
        """The action is refused with this code. zone, instance_type and market: of RunInstances only.

        :param status: HTTP status; default AWS's own for the code, else 400.
        :param times: so often, then no more; default always.
        :param probability: of each call, drawn from a fixed seed: the same calls fail in every run.
        :param market: "spot" or "on-demand".
        """
        place: dict[str, Any] = {"zone": zone, "instance_type": instance_type, "region": region, "market": market}
        more: dict[str, Any] = {"status": status, "message": message, "times": times, "probability": probability}
        return self.add(Fault(kind="error", action=action, code=code, **more, **place))

    def lose_answer(self, action: str, times: int | None = 1) -> Fault:
        """The action takes effect, then the connection is reset."""
        return self.add(Fault(kind="lose_answer", action=action, times=times))

    def delay(self, action: str, seconds: float, times: int | None = None) -> Fault:
        """The action starts that much later."""
        return self.add(Fault(kind="delay", action=action, seconds=seconds, times=times))

    def throttle(self, action: str, times: int | None = None, *, disguised: bool = False) -> Fault:
        """The action is refused in the service's own words for "too often".

        :param disguised: as ECS passes on EC2's refusal: InvalidParameterException with "Rate exceeded" in its message.
        """
        return self.add(Fault(kind="throttle", action=action, times=times, disguised=disguised))

    def lag(self, describe_seconds: float = 0.0, tags_seconds: float = 0.0) -> Fault:
        """EC2 does not know a new instance for so long (NotFound by id, absent by filter), nor its tags."""
        return self.add(Fault(kind="lag", describe_seconds=describe_seconds, tags_seconds=tags_seconds))

    def expire_credentials(self, times: int | None = None, *, presigned: bool = False) -> Fault:
        """Signed calls from outside the machines are refused; a machine's own role lives on.

        :param presigned: what was presigned is refused too, as when it was signed by a role's credentials.
        """
        return self.add(Fault(kind="expire_credentials", times=times, presigned=presigned))

    def capacity(
        self,
        instance_type: str | None = None,
        zone: str | None = None,
        count: int = 0,
        *,
        region: str | None = None,
        market: str | None = None,
    ) -> Fault:
        """That pool has room for `count` more, then none; a launch takes what there is if that is its MinCount."""
        place: dict[str, Any] = {"zone": zone, "instance_type": instance_type, "region": region, "market": market}
        return self.add(Fault(kind="capacity", count=count, **place))

    def guest(self, kind: str, times: int = 1) -> Fault:
        """What goes wrong in the next machines launched; kinds: fault_rules.GUESTS."""
        return self.add(Fault(kind="guest", guest=kind, times=times))

    def console_delay(self, seconds: float) -> Fault:
        """GetConsoleOutput shows nothing newer than that long ago."""
        return self.add(Fault(kind="console_delay", seconds=seconds))

    def bucket_down(self, bucket: str, *, code: str = "SlowDown", times: int | None = None) -> Fault:
        """Every request on the bucket is refused, presigned ones too."""
        return self.add(Fault(kind="bucket_down", bucket=bucket, code=code, times=times))

    def task(self, kind: str, times: int = 1, *, seconds: float = 0.0, provider: str | None = None) -> Fault:
        """What goes wrong with the next ECS tasks; kinds: fault_rules.TASKS.

        :param seconds: until it goes wrong; of `interrupted` and `host-lost` counted from RUNNING.
        :param provider: only with tasks of this capacity provider or launch type.
        """
        more: dict[str, Any] = {"times": times, "seconds": seconds, "provider": provider}
        return self.add(Fault(kind="task", task=kind, **more))

    def task_failures(
        self,
        reason: str,
        *,
        times: int | None = None,
        count: int | None = None,
        start: int = 0,
        provider: str | None = None,
    ) -> Fault:
        """RunTask answers with `failures` instead of tasks; reason: AWS's, or "capacity" or "vcpus" for its sentence.

        :param times: for so many calls; default all.
        :param count: for so many tasks, over all calls; default all.
        :param start: of each call so many start, the rest fail.
        :param provider: only tasks for this capacity provider or launch type.
        """
        more: dict[str, Any] = {"times": times, "count": count, "start": start, "provider": provider}
        return self.add(Fault(kind="task_failures", reason=reason, **more))

    def task_lag(self, seconds: float) -> Fault:
        """ECS does not know a new task for so long: MISSING by its ARN, absent from lists."""
        return self.add(Fault(kind="task_lag", seconds=seconds))

    def task_rate(self, calls: float = 20, calls_rate: float = 20, tasks: float = 100, tasks_rate: float = 20) -> Fault:
        """RunTask is throttled as Fargate does it: so many at once, then so many a second, of calls and of tasks.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html has the defaults.
        """
        rates: dict[str, Any] = {"calls": calls, "calls_rate": calls_rate, "tasks": tasks, "tasks_rate": tasks_rate}
        return self.add(Fault(kind="task_rate", **rates))

    def sqs_lag(self, seconds: float, queue: str = "*") -> Fault:
        """The counters in GetQueueAttributes are what was true so long ago, up to 900 s. Receiving never lags.

        :param queue: a name or a pattern of names.
        """
        return self.add(Fault(kind="sqs_lag", seconds=seconds, queue=queue))

    def lose_events(self, detail_type: str = "*", *, times: int | None = None, probability: float = 1.0) -> Fault:
        """State-change events that a rule wants do not reach it; as it stands, no event does.

        :param detail_type: AWS's name or a pattern: "ECS Task State Change", "EC2 *".
        """
        more: dict[str, Any] = {"times": times, "probability": probability}
        return self.add(Fault(kind="lose_events", detail_type=detail_type, **more))

    def duplicate_events(self, detail_type: str = "*", *, times: int | None = None, probability: float = 1.0) -> Fault:
        """They reach the rule twice, with the same id."""
        more: dict[str, Any] = {"times": times, "probability": probability}
        return self.add(Fault(kind="duplicate_events", detail_type=detail_type, **more))

    def delay_events(
        self, seconds: float, detail_type: str = "*", *, times: int | None = None, probability: float = 1.0
    ) -> Fault:
        """They arrive that much later; when not all are late, others overtake them."""
        more: dict[str, Any] = {"times": times, "probability": probability}
        return self.add(Fault(kind="delay_events", seconds=seconds, detail_type=detail_type, **more))

    def hits(self, fault: Fault | str) -> int:
        """How often it has made a difference until now."""
        name = id_of(fault)
        for each in self.list():
            if each.id == name:
                return each.hits
        raise FaultError(f"no fault {name} here")

    @abstractmethod
    def list(self) -> tuple[Fault, ...]:
        """All, the used up too, oldest first, with their hits."""

    @abstractmethod
    def remove(self, fault: Fault | str) -> None:
        """Of what was removed before, too."""

    @abstractmethod
    def clear(self) -> None:
        """All of them."""

    @abstractmethod
    def add(self, fault: Fault) -> Fault:
        """What the verbs above do with the fault they made."""


def id_of(fault: Fault | str) -> str:
    return fault if isinstance(fault, str) else fault.id

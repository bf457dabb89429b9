"""What can go wrong on AWS, faked on request: `cloud.faults`, and `RemoteFaults(url)` for a cloud elsewhere.

Each verb answers with the Fault it made: it prints, it can be removed, and its hits are counted.
botocore's own retries hit a fault too: a client that shall see each has `retries={"total_max_attempts": 1}`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from airflow_transient.localcloud import fault_rules
from airflow_transient.localcloud.errors import FaultError, Refused
from airflow_transient.localcloud.fault_rules import Call, Fault, Outcome
from airflow_transient.localcloud.token_bucket import Bucket, full, take

PATH = "/_localcloud/faults"
__all__ = ["Fault", "FaultError", "Faults", "RemoteFaults"]


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
        name = _id(fault)
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


def _id(fault: Fault | str) -> str:
    return fault if isinstance(fault, str) else fault.id


@dataclass
class Faults(FaultVerbs):
    """The faults of a cloud in this process, and what the cloud asks of them."""

    seed: int = 0
    _faults: dict[str, Fault] = field(default_factory=dict)
    _chances: dict[str, random.Random] = field(default_factory=dict)
    _buckets: dict[str, tuple[Bucket, Bucket]] = field(default_factory=dict)
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def list(self) -> tuple[Fault, ...]:
        with self._lock:
            return tuple(self._faults.values())

    def remove(self, fault: Fault | str) -> None:
        with self._lock:
            self._faults.pop(_id(fault), None)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._made += 1
            new = replace(fault, id=f"fault-{self._made}", hits=0, taken=0)
            self._faults[new.id] = new
            # A generator each: what one fault draws does not depend on the calls that others see.
            self._chances[new.id] = random.Random(f"{self.seed}/{new.id}")  # noqa: S311  (repeatable on purpose)
            return new

    # --- asked by the cloud -----------------------------------------------------------------------------

    def meet(self, call: Call) -> Outcome:
        with self._lock:
            outcome = fault_rules.decide(self._faults.values(), call, self._lucky)
            self._hit(outcome.hit)
            return outcome

    def room(self, call: Call, least: int, most: int) -> int:
        """How many of a launch there is room for; refused when that is less than it wants at least."""
        with self._lock:
            given, changed = fault_rules.give(tuple(self._faults.values()), call, least, most)
            self._faults.update({fault.id: fault for fault in changed})
        if given == 0:
            raise fault_rules.no_room(call)
        return given

    def next_guest(self) -> str:
        """What is wrong with the machine that boots next; "" is nothing."""
        with self._lock:
            first = next((each for each in self._faults.values() if each.kind == "guest" and not each.spent), None)
            if first is None:
                return ""
            self._hit((first.id,))
            return first.guest or ""

    def task_room(self, pools: Sequence[str]) -> Sequence[str | None]:
        """For each task of one RunTask why it does not start, or None; Refused when the call is one too many."""
        with self._lock:
            self._pace(len(pools))
            reasons, changed = fault_rules.refuse_tasks(tuple(self._faults.values()), pools)
            self._faults.update({fault.id: fault for fault in changed})
            return reasons

    def next_task(self, pool: str) -> tuple[str, float]:
        """What is wrong with the task that starts next, and after how many seconds; "" is nothing."""
        with self._lock:
            for each in self._faults.values():
                if each.kind == "task" and not each.spent and each.provider in (None, pool):
                    self._hit((each.id,))
                    return each.task or "", each.seconds or 0.0
            return "", 0.0

    def task_unknown(self, age: float) -> bool:
        return self._seconds("task_lag", "seconds", age) > age

    def _pace(self, tasks: int) -> None:
        now = time.monotonic()
        for fault in [each for each in self._faults.values() if each.kind == "task_rate"]:
            new = (full(fault.calls, fault.calls_rate, now), full(fault.tasks, fault.tasks_rate, now))
            if not take(self._buckets.setdefault(fault.id, new), (1, tasks), now):
                self._hit((fault.id,))
                raise Refused("ThrottlingException", "Rate exceeded")

    def unknown(self, age: float) -> bool:
        """Does EC2 not know yet an instance of this age, in seconds?"""
        return self._seconds("lag", "describe_seconds", age) > age

    def untagged(self, age: float) -> bool:
        return self._seconds("lag", "tags_seconds", age) > age

    def console_age(self) -> float:
        return self._seconds("console_delay", "seconds", 0.0)

    def sqs_age(self, queue: str) -> float:
        """How old the counters of this queue are."""
        with self._lock:
            lags = [each for each in self._faults.values() if fnmatchcase(queue, each.queue or "")]
            self._hit(tuple(each.id for each in lags))
            return max((each.seconds or 0.0 for each in lags), default=0.0)

    def event_fate(self, detail_type: str) -> tuple[float, ...]:
        """See events.Fate."""
        with self._lock:
            arrivals, hit = fault_rules.fate(self._faults.values(), detail_type, self._lucky)
            self._hit(hit)
            return arrivals

    def _seconds(self, kind: str, name: str, above: float) -> float:
        """The longest of that kind, and a hit for each that is longer than `above`."""
        with self._lock:
            longer = [each for each in self._faults.values() if each.kind == kind and getattr(each, name) > above]
            self._hit(tuple(each.id for each in longer))
            return max((float(getattr(each, name)) for each in longer), default=0.0)

    def _lucky(self, fault: Fault) -> bool:
        return fault.probability == 1.0 or self._chances[fault.id].random() < fault.probability

    def _hit(self, names: Sequence[str]) -> None:
        for name in names:
            self._faults[name] = replace(self._faults[name], hits=self._faults[name].hits + 1)


@dataclass(frozen=True)
class RemoteFaults(FaultVerbs):
    """The faults of the cloud at this URL, from any process of this machine that is not one of its guests."""

    url: str

    def list(self) -> tuple[Fault, ...]:
        return tuple(fault_rules.read(words) for words in self._ask("GET", PATH)["faults"])

    def remove(self, fault: Fault | str) -> None:
        self._ask("DELETE", f"{PATH}/{_id(fault)}")

    def clear(self) -> None:
        self._ask("DELETE", PATH)

    def add(self, fault: Fault) -> Fault:
        return fault_rules.read(self._ask("POST", PATH, fault.words()))

    def _ask(self, method: str, path: str, words: Any = None) -> Any:
        # No proxy, whatever the environment says: the cloud is on this machine.
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            body = None if words is None else json.dumps(words)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = json.loads(answer.read() or b"{}")
        finally:
            connection.close()
        if answer.status >= 300:
            raise FaultError(str(said.get("error", answer.reason)))
        return said

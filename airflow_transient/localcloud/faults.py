"""What can go wrong on AWS, faked on request: `cloud.faults`, and `RemoteFaults(url)` for a cloud elsewhere.

botocore's own retries hit a fault too: a client that shall see each has `retries={"total_max_attempts": 1}`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from airflow_transient.localcloud import fault_rules
from airflow_transient.localcloud.errors import FaultError, Refused
from airflow_transient.localcloud.fault_rules import Call, Fault, Outcome
from airflow_transient.localcloud.fault_verbs import FaultVerbs, id_of
from airflow_transient.localcloud.token_bucket import Bucket, full, take

PATH = "/_localcloud/faults"
__all__ = ["Fault", "FaultError", "FaultVerbs", "Faults", "RemoteFaults"]


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
            self._faults.pop(id_of(fault), None)

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
        self._ask("DELETE", f"{PATH}/{id_of(fault)}")

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

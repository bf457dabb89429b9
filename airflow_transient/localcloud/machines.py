"""EC2's side of a guest: what its boot, its shutdown and its end mean for the state of the instance.

Law: states change under one lock, which EC2 requests hold too. A guest's own shutdown follows the instance's
InstanceInitiatedShutdownBehavior; ours follows what was asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_transient.localcloud import events, userdata
from airflow_transient.localcloud.images import Disks
from airflow_transient.localcloud.imds import Metadata
from airflow_transient.localcloud.runner import Boot, End, Runner

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ON_THE_WAY = {"terminated": "shutting-down", "stopped": "stopping"}
BEHAVIOURS = {"terminate": "terminated", "stop": "stopped"}


@dataclass(frozen=True)
class Reason:
    """Why an instance left the running state, in AWS's words."""

    code: str = ""
    words: str = ""

    @property
    def message(self) -> str:
        return f"{self.code}: {self.words}" if self.code else ""


ITSELF = Reason("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
USER = Reason("Client.UserInitiatedShutdown", "User initiated shutdown")
RECLAIMED = Reason("Server.SpotInstanceTermination", "Spot instance termination")
CRASHED = Reason("Server.InternalError", "Internal error on launch")


@dataclass(frozen=True)
class Ending:
    """Where an instance is going, and why."""

    target: str
    reason: Reason


@dataclass
class Machines:
    """`instance` is moto's object. finish(instance, target) does moto's own clearing up; see moto_seams."""

    runner: Runner
    finish: Callable[[Any, str], None]
    metadata: Callable[[Any], Metadata]
    disks: Disks
    lock: threading.RLock = field(default_factory=threading.RLock)
    _instances: dict[str, Any] = field(default_factory=dict)
    _endings: dict[str, Ending] = field(default_factory=dict)

    def boot(self, instance: Any, user_data: bytes = b"", trouble: str = "") -> None:
        """User data runs on the first boot only, as cloud-init has it; later boots come without."""
        orders = userdata.refused(user_data) if trouble == "cloud-init-refuses" else userdata.orders(user_data)
        become(instance, "pending", Reason())
        self._instances[instance.id] = instance
        boot = Boot(instance.id, orders.script, orders.words, lambda: self._look(instance), trouble)
        # What stops keeps its disk, and what starts again or is made from an image finds one.
        saves = self.disks.of(instance.id) if instance.instance_initiated_shutdown_behavior == "stop" else None
        base = self.disks.known(instance.id) or self.disks.known(instance.image_id)
        self.runner.start(replace(boot, base=base, saves=saves), self)

    def _look(self, instance: Any) -> Metadata:
        with self.lock:
            return self.metadata(instance)

    def end(self, instance: Any, target: str, reason: Reason = USER) -> None:
        """Bring it down by API; again is fine, and a terminated instance stays as it is."""
        if instance.state in ("terminated", target):
            return
        if instance.state == "stopped":
            self._settle(instance, Ending(target, reason))
        elif self._endings.get(instance.id, Ending("stopped", reason)).target == "stopped":
            self._endings[instance.id] = Ending(target, reason)
            become(instance, ON_THE_WAY[target], reason)
            self.runner.stop(instance.id)

    def fail(self, instance: Any) -> None:
        """Its host is gone, whatever it was doing; what does not run does not notice."""
        if instance.state not in ("terminated", "stopped"):
            self._endings[instance.id] = Ending("terminated", CRASHED)
            self.runner.kill(instance.id)

    def _settle(self, instance: Any, ending: Ending) -> None:
        self.finish(instance, ending.target)
        become(instance, ending.target, ending.reason)

    # --- told by the runner -----------------------------------------------------------------------------

    def up(self, name: str) -> None:
        with self.lock:
            if self._instances[name].state == "pending":
                become(self._instances[name], "running", Reason())

    def going(self, name: str) -> None:
        with self.lock:
            instance = self._instances[name]
            target = BEHAVIOURS[instance.instance_initiated_shutdown_behavior]
            if name not in self._endings:
                self._endings[name] = Ending(target, ITSELF)
                become(instance, ON_THE_WAY[target], ITSELF)

    def down(self, name: str, end: End) -> None:
        with self.lock:
            instance = self._instances[name]
            if end is End.ITSELF and name not in self._endings:  # reboot(2) gives no notice
                self.going(name)
            self._settle(instance, self._endings.pop(name, Ending("terminated", CRASHED)))


def become(instance: Any, state: str, reason: Reason) -> None:
    instance._state.name, instance._state.code = state, CODES[state]
    instance.state_reason.code, instance.state_reason.message = reason.code, reason.message
    instance._reason = instance._reason if reason is USER else ""
    region = instance.ec2_backend.region_name
    arn = f"arn:aws:ec2:{region}:{instance.ec2_backend.account_id}:instance/{instance.id}"
    detail = {"instance-id": instance.id, "state": state}
    events.emit("aws.ec2", "EC2 Instance State-change Notification", detail, [arn], region)


def warn(instance: Any) -> None:
    """The ARN is of the zone and without the account, as in this one event AWS has it.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    arn = f"arn:aws:ec2:{instance.availability_zone}:instance/{instance.id}"
    detail = {"instance-id": instance.id, "instance-action": "terminate"}
    region = instance.ec2_backend.region_name
    events.emit("aws.ec2", "EC2 Spot Instance Interruption Warning", detail, [arn], region)

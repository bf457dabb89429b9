"""Every name of moto that is replaced, in one place: moto 5.2.5 made to boot, and made as strict as EC2.

Law: nothing is replaced while no local cloud runs; `uninstall` gives every name back. Each seam has a test in
tests/localcloud/test_seams.py that says what moto would have done without it.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_transient.localcloud import ec2_rules, fault_answers, moto_events, moto_groups, moto_launch
from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.fault_rules import Call
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.group_keeper import Keeper
from airflow_transient.localcloud.machines import Machines
from airflow_transient.localcloud.moto_ecs import Ecs
from airflow_transient.localcloud.moto_images import MotoImages
from airflow_transient.localcloud.moto_reads import MotoRegion
from airflow_transient.localcloud.moto_sqs import Queues
from airflow_transient.localcloud.sandbox_runner import SandboxRunner
from airflow_transient.localcloud.tokens import ClientTokens

# Filters of DescribeInstances that moto answers with a crash (HTTP 500).
FILTERS = {
    "client-token": "client_token",
    "instance-lifecycle": "lifecycle",
    "spot-instance-request-id": "spot_instance_request_id",
    "iam-instance-profile.arn": "iam_instance_profile_arn",
    "instance-state-code": "state_code",
    "reservation-id": "reservation_id",
}


def finish(instance: Any, target: str) -> None:
    """moto's own ending, kept from before it was replaced: network cards, volumes, fleets."""
    {"terminated": ORIGINAL["terminate"], "stopped": ORIGINAL["stop"]}[target](instance)


ORIGINAL: dict[str, Callable[..., Any]] = {}
#: Of a name that moto does not have.
MISSING = object()


@dataclass
class Seams:
    machines: Machines
    runner: SandboxRunner
    faults: Faults
    queues: Queues
    ecs: Ecs
    images: MotoImages
    groups: Keeper
    describe_lag: int = 0
    tokens: ClientTokens = field(default_factory=lambda: ClientTokens(_states))
    _unseen: dict[str, int] = field(default_factory=dict)
    _born: dict[str, float] = field(default_factory=dict)
    _before: list[tuple[Any, str, Any]] = field(default_factory=list)

    def install(self) -> None:
        from moto.ec2 import utils
        from moto.ec2.models.fleets import FleetsBackend
        from moto.ec2.models.instances import Instance, InstanceBackend
        from moto.ec2.models.tags import TagBackend
        from moto.ec2.responses.general import General
        from moto.ec2.responses.instances import InstanceResponse

        ORIGINAL.update(terminate=Instance.terminate, stop=Instance.stop, start=Instance.start)
        self._replace(Instance, "terminate", lambda instance: self._end(instance, "terminated"))
        self._replace(Instance, "stop", lambda instance: self._end(instance, "stopped"))
        self._replace(Instance, "start", lambda instance: self._start(instance))
        self._replace(InstanceBackend, "run_instances", self._boot(InstanceBackend.run_instances))
        self._replace(InstanceResponse, "run_instances", _speaking(self._run(InstanceResponse.run_instances)))
        self._replace(InstanceResponse, "describe_instances", self._describe(InstanceResponse.describe_instances))
        statuses = InstanceResponse.describe_instance_status
        self._replace(InstanceResponse, "describe_instance_status", self._describe_status(statuses))
        self._replace(TagBackend, "describe_tags", self._describe_tags(TagBackend.describe_tags))
        modify = InstanceResponse.modify_instance_attribute
        self._replace(InstanceResponse, "modify_instance_attribute", _speaking(self._modify(modify)))
        self._replace(General, "get_console_output", lambda response: self._console(response))
        self._replace(utils, "passes_filter_dict", _speaking(_passes(utils.passes_filter_dict)))
        self._replace(FleetsBackend, "create_fleet", moto_launch.completing_fleets(FleetsBackend.create_fleet))
        for seams in (
            self.queues.seams(),
            moto_events.seams(),
            self.ecs.seams(),
            self.images.seams(_speaking),
            moto_groups.seams(self.groups),
        ):
            for seam in seams:
                self._replace(*seam)

    def uninstall(self) -> None:
        while self._before:
            owner, name, value = self._before.pop()
            if value is MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        ORIGINAL.clear()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, getattr(owner, name, MISSING)))
        setattr(owner, name, value)

    # --- the life of an instance ------------------------------------------------------------------------

    def _boot(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """moto: every instance is running at once, and nothing runs. Also the way of fleets and groups."""

        def boot(backend: Any, *args: Any, **kwargs: Any) -> Any:
            reservation = run(backend, *args, **kwargs)
            for instance in reservation.instances:
                instance.reservation_id = reservation.id
                self._unseen[instance.id] = self.describe_lag
                self._born[instance.id] = time.monotonic()
                data = base64.b64decode(str(instance.user_data or ""))
                self.machines.boot(instance, data, self.faults.next_guest())
            return reservation

        return boot

    def _end(self, instance: Any, target: str) -> Any:
        """moto: terminated and stopped at once."""
        before = _copy_of_state(instance)
        self.machines.end(instance, target)
        return before

    def _start(self, instance: Any) -> Any:
        if instance.state == "running":
            return _copy_of_state(instance)
        if instance.state != "stopped":
            message = f"The instance '{instance.id}' is not in a state from which it can be started."
            raise _as_moto(Refused("IncorrectInstanceState", message))
        before = ORIGINAL["start"](instance)
        self.machines.boot(instance)
        return before

    # --- requests ---------------------------------------------------------------------------------------

    def _run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """moto: no validation of most parameters, no idempotency, a template's shutdown behaviour is lost."""

        def run_instances(response: Any) -> Any:
            from moto.core.responses import ActionResult

            region, asked = MotoRegion(response.ec2_backend), dict(response.params)
            request = ec2_rules.merged(moto_launch.template(response.ec2_backend, asked.get("LaunchTemplate")), asked)
            ec2_rules.check(request, region)
            scope = (response.region, ec2_rules.zone(request, region), str(asked.get("ClientToken") or ""))
            if scope[2] and not asked.get("DryRun"):
                before = self.tokens.recall(scope, asked)
                if before is not None:
                    return ActionResult(before)
            # moto starts MinCount; AWS as many as it can, up to MaxCount.
            response.params = {**request, "MinCount": self._room(response, request)}
            if not scope[2]:
                response.params["ClientToken"] = ""
            result = run(response)
            moto_launch.complete(response, result.result, request)
            if scope[2]:
                self.tokens.remember(scope, asked, result.result)
            return result

        return run_instances

    def _room(self, response: Any, request: dict[str, Any]) -> int:
        least, most = int(request.get("MinCount", 1)), int(request.get("MaxCount", 1))
        if request.get("DryRun"):
            return most
        kind, zone, market = moto_launch.pool(request, response.ec2_backend)
        call = Call("RunInstances", "ec2", region=response.region, zone=zone, instance_type=kind, market=market)
        return self.faults.room(call, least, most)

    def _describe(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        """EC2 is eventually consistent, and a new instance may be unknown for some seconds."""

        def describe_instances(response: Any) -> Any:
            self._refuse_unknown(response)
            answer = describe(response)
            for reservation in answer.result["Reservations"]:  # copies, moto's own stay as they are
                reservation.instances = [each for each in reservation.instances if not self._unknown(each.id)]
            answer.result["Reservations"] = [each for each in answer.result["Reservations"] if each.instances]
            return answer

        return describe_instances

    def _describe_status(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        def describe_instance_status(response: Any) -> Any:
            self._refuse_unknown(response)
            answer = describe(response)
            known = [each for each in answer.result["InstanceStatuses"] if not self._unknown(each.id)]
            answer.result["InstanceStatuses"] = known
            return answer

        return describe_instance_status

    def _refuse_unknown(self, response: Any) -> None:
        from moto.ec2.exceptions import InvalidInstanceIdError

        for name in response._get_param("InstanceIds", []):
            if self._unseen.get(name, 0) > 0:
                self._unseen[name] -= 1
                raise InvalidInstanceIdError(name)
            if self._unknown(name):
                raise InvalidInstanceIdError(name)

    def _unknown(self, name: str) -> bool:
        return name in self._born and self.faults.unknown(time.monotonic() - self._born[name])

    def _describe_tags(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        """Every look at tags ends here: DescribeTags, tag filters, and the tags shown of an instance."""

        def describe_tags(backend: Any, filters: Any = None) -> list[dict[str, str]]:
            found: list[dict[str, str]] = describe(backend, filters)
            young = {tag["resource_id"] for tag in found if self._untagged(tag["resource_id"])}
            return [tag for tag in found if tag["resource_id"] not in young]

        return describe_tags

    def _untagged(self, name: str) -> bool:
        return name in self._born and self.faults.untagged(time.monotonic() - self._born[name])

    def _modify(self, modify: Callable[..., Any]) -> Callable[..., Any]:
        """moto: InstanceInitiatedShutdownBehavior is accepted and not stored."""

        def modify_instance_attribute(response: Any) -> Any:
            from moto.core.responses import EmptyResult

            value = response._get_param("InstanceInitiatedShutdownBehavior.Value")
            if response._get_param("Attribute") == "instanceInitiatedShutdownBehavior":
                value = response._get_param("Value")
            if value is None:
                return modify(response)
            if value not in ("stop", "terminate"):
                raise Refused("InvalidParameterValue", f"Value ({value}) is invalid: stop or terminate.")
            instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
            instance.instance_initiated_shutdown_behavior = value
            return EmptyResult()

        return modify_instance_attribute

    def _console(self, response: Any) -> Any:
        """moto: the same canned text of 2006 for everybody."""
        from moto.core.responses import ActionResult
        from moto.core.types import Base64EncodedString
        from moto.core.utils import utcnow

        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        text = base64.b64encode(self.runner.console(instance.id).last(self.faults.console_age()))
        output = Base64EncodedString.from_encoded_bytes(text)
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})


def _passes(passes: Callable[..., Any]) -> Callable[..., Any]:
    """moto: filters it does not know crash it (HTTP 500)."""

    def passes_filter_dict(instance: Any, filters: dict[str, Any]) -> bool:
        rest = {}
        for name, values in filters.items():
            if name not in FILTERS:
                rest[name] = values
            elif str(getattr(instance, FILTERS[name], None)) not in values:
                return False
        try:
            return bool(passes(instance, rest))
        except NotImplementedError:
            raise Refused("InvalidParameterValue", f"The filter '{', '.join(rest)}' is invalid") from None

    return passes_filter_dict


def _states(reservation: Any) -> set[str]:
    return {instance.state for instance in reservation.instances}


def _copy_of_state(instance: Any) -> Any:
    from moto.ec2.models.instances import InstanceState

    return InstanceState(instance.state, instance.state_code)


def _speaking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Our refusals, in moto's tongue."""

    def speaking(*args: Any) -> Any:
        try:
            return function(*args)
        except Refused as refusal:
            if refusal.status != 400:  # of moto's own errors EC2's are always 400
                said = fault_answers.answer(refusal, "ec2").body.decode()
                return said, {"status": refusal.status, "Content-Type": "text/xml"}
            raise _as_moto(refusal) from None

    return speaking


def _as_moto(refusal: Refused) -> Exception:
    from moto.ec2.exceptions import EC2ClientError

    error: Exception = EC2ClientError(refusal.code, refusal.message)
    return error

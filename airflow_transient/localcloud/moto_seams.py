"""Every name of moto that is replaced, in one place: moto 5.2.5 made to boot, and made as strict as EC2.

Law: nothing is replaced while no local cloud runs; `uninstall` gives every name back. Each seam has a test in
tests/localcloud/test_seams.py that says what moto would have done without it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_transient.localcloud import ec2_rules
from airflow_transient.localcloud.errors import Refused
from airflow_transient.localcloud.machines import Machines
from airflow_transient.localcloud.moto_reads import MotoRegion
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


@dataclass
class Seams:
    machines: Machines
    runner: SandboxRunner
    describe_lag: int = 0
    tokens: ClientTokens = field(default_factory=lambda: ClientTokens(_states))
    _unseen: dict[str, int] = field(default_factory=dict)
    _before: list[tuple[Any, str, Any]] = field(default_factory=list)

    def install(self) -> None:
        from moto.ec2 import utils
        from moto.ec2.models.instances import Instance, InstanceBackend
        from moto.ec2.responses.general import General
        from moto.ec2.responses.instances import InstanceResponse

        ORIGINAL.update(terminate=Instance.terminate, stop=Instance.stop, start=Instance.start)
        self._replace(Instance, "terminate", lambda instance: self._end(instance, "terminated"))
        self._replace(Instance, "stop", lambda instance: self._end(instance, "stopped"))
        self._replace(Instance, "start", lambda instance: self._start(instance))
        self._replace(InstanceBackend, "run_instances", self._boot(InstanceBackend.run_instances))
        self._replace(InstanceResponse, "run_instances", _speaking(self._run(InstanceResponse.run_instances)))
        self._replace(InstanceResponse, "describe_instances", self._describe(InstanceResponse.describe_instances))
        modify = InstanceResponse.modify_instance_attribute
        self._replace(InstanceResponse, "modify_instance_attribute", _speaking(self._modify(modify)))
        self._replace(General, "get_console_output", lambda response: self._console(response))
        self._replace(utils, "passes_filter_dict", _speaking(_passes(utils.passes_filter_dict)))

    def uninstall(self) -> None:
        while self._before:
            owner, name, value = self._before.pop()
            setattr(owner, name, value)
        ORIGINAL.clear()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    # --- the life of an instance ------------------------------------------------------------------------

    def _boot(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """moto: every instance is running at once, and nothing runs. Also the way of fleets and groups."""

        def boot(backend: Any, *args: Any, **kwargs: Any) -> Any:
            reservation = run(backend, *args, **kwargs)
            for instance in reservation.instances:
                instance.reservation_id = reservation.id
                self._unseen[instance.id] = self.describe_lag
                self.machines.boot(instance, base64.b64decode(str(instance.user_data or "")))
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
            request = ec2_rules.merged(_template(response, asked), asked)
            ec2_rules.check(request, region)
            scope = (response.region, ec2_rules.zone(request, region), str(asked.get("ClientToken") or ""))
            if scope[2] and not asked.get("DryRun"):
                before = self.tokens.recall(scope, asked)
                if before is not None:
                    return ActionResult(before)
            # moto starts MinCount; AWS as many as it can, up to MaxCount.
            response.params = {**request, "MinCount": request.get("MaxCount", 1)}
            if not scope[2]:
                response.params["ClientToken"] = ""
            result = run(response)
            _complete(response, result.result, request)
            if scope[2]:
                self.tokens.remember(scope, asked, result.result)
            return result

        return run_instances

    def _describe(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        """describe_lag: EC2 is eventually consistent, and a new instance may be unknown for some seconds."""

        def describe_instances(response: Any) -> Any:
            from moto.ec2.exceptions import InvalidInstanceIdError

            for name in response._get_param("InstanceIds", []):
                if self._unseen.get(name, 0) > 0:
                    self._unseen[name] -= 1
                    raise InvalidInstanceIdError(name)
            return describe(response)

        return describe_instances

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
        text = base64.b64encode(self.runner.console(instance.id).last())
        output = Base64EncodedString.from_encoded_bytes(text)
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})


def _template(response: Any, asked: dict[str, Any]) -> dict[str, Any]:
    wanted = asked.get("LaunchTemplate")
    if not wanted:
        return {}
    data: dict[str, Any] = dict(response.ec2_backend._get_template_from_args(wanted).data)
    if "UserData" in data:
        data["UserData"] = str(data["UserData"])  # moto's own type, which its own parser refuses
    return data


def _complete(response: Any, reservation: Any, request: dict[str, Any]) -> None:
    """What moto's RunInstances leaves out."""
    from moto.ec2.utils import random_spot_request_id

    profile = request.get("IamInstanceProfile") or {}
    for number, instance in enumerate(reservation.instances):
        instance.disable_api_termination = bool(request.get("DisableApiTermination"))
        if instance.lifecycle == "spot":
            instance.spot_instance_request_id = random_spot_request_id()
        if profile and number:  # moto gives the profile to the first instance only
            response.ec2_backend.associate_iam_instance_profile(
                instance.id,
                iam_instance_profile_name=profile.get("Name"),
                iam_instance_profile_arn=profile.get("Arn"),
            )


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
            raise _as_moto(refusal) from None

    return speaking


def _as_moto(refusal: Refused) -> Exception:
    from moto.ec2.exceptions import EC2ClientError

    error: Exception = EC2ClientError(refusal.code, refusal.message)
    return error

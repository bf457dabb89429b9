"""Instances that end themselves: ask for them, look at them, end them."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import egress, launcher, pacing
from airflow_transient.aws.ec2_looks import Looks, box_of, describe
from airflow_transient.aws.found import tags_of
from airflow_transient.aws.launcher import FAILURES, ClientFactory, Refused, words_of
from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.aws.resolve import resolve
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2 import bootscript, requests
from airflow_transient.core.ec2.bootscript import Boot, ReportForm
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.fallback import CALL_ITSELF, Scope
from airflow_transient.core.launch import BY_REQUEST, STOPPED_BY, Launch, LaunchKey
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import LaunchError, Lost, TransientError

#: The pauses before the same request is sent again after an answer that was no answer, in seconds.
ASK_AGAIN = (1.0, 3.0, 8.0)
#: on_kill has five seconds (Airflow's task runner).
STOP_AGAIN = (0.5, 1.0, 2.0)
#: How long the credentials that sign the form will last: at least as long as asked, not that long, or nobody knows.
SigningLife = Callable[[float], "bool | None"]


class Ec2Launcher:
    """The Launcher of EC2. `client` makes boto3 clients, `signing_life` tells how long their credentials last."""

    kind = "ec2"
    memory: timedelta | None = None

    def __init__(
        self,
        client: ClientFactory,
        signing_life: SigningLife = lambda seconds: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._looks = Looks(client)
        self._signing_life = signing_life
        self._sleep = sleep

    # --- ask

    def prepare(
        self, spec: Ec2Spec, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None
    ) -> Request:
        region = self._region()
        resolved = resolve(self._client, spec)
        draft = requests.draft(spec, key, region, now, so_far or secrets.token_hex(8))
        arguments = requests.run_instances(spec, key, resolved, pool, draft)
        box = box_of(self._client, draft)
        form = box.form(spec.lifetime) if box else None
        data = self._user_data(spec, Boot(draft.token, draft.nonce, region, form, len(draft.ids)), box)
        if box and form:
            box.preflight(form, {**draft.to_dict(), "owner": str(key.owner)})
        warnings = self._warnings(spec, form, resolved) + egress.warning(self._client, spec, pool)
        user_data = base64.b64encode(data).decode()
        return Request(draft, pool, key.token, arguments["MaxCount"], arguments, user_data, warnings)

    def _region(self) -> str:
        with launcher.said_plainly("a client for EC2"):
            region: str = self._client("ec2").meta.region_name
        return region

    def _user_data(self, spec: Ec2Spec, boot: Boot, box: ReceiptBox | None) -> bytes:
        script = bootscript.boot_script(spec, boot)
        if data := bootscript.user_data(script):
            return data
        if box is None:
            raise bootscript.too_long(script)
        stub = bootscript.stub_script(spec, boot, box.keep_script(script, spec.lifetime))
        return stub.encode()

    def _warnings(self, spec: Ec2Spec, form: ReportForm | None, resolved: Resolved) -> tuple[str, ...]:
        told = ("the launch template's user data is replaced by the boot script",) * resolved.replaces_user_data
        return told + self._reporting_warnings(spec, form)

    def _reporting_warnings(self, spec: Ec2Spec, form: ReportForm | None) -> tuple[str, ...]:
        if form is None:
            return ("no `results` given: the console is the only channel, it keeps 64 KB and no `result`",)
        life = self._signing_life(spec.lifetime.total_seconds())
        words = {
            False: "the credentials that signed the receipt form end before the deadline",
            None: "nobody can say how long the credentials that signed the receipt form will last",
        }
        if life is True or (life is None and not _temporary(form)):
            return ()
        return (f"{words[life]}: after that the console and the instance's own role are the channels",)

    def launch(self, request: Request, again: bool = False) -> Launch:
        """The same bytes, again after an unclear answer: one token starts once.

        After an unclear answer, ours or an earlier try's (`again`), a refusal of the call itself (no permission,
        expired request) says nothing about what the first asking did: it stays asked for, and is looked up by token.
        """
        last: Exception | None = None
        for pause in (*ASK_AGAIN, None):
            try:
                return _joined(request, self._client("ec2").run_instances(**requests.call(request))["Instances"])
            except (*FAILURES, TransientError) as error:
                last = error
                scope = launcher.scope_of_error(error)
                if scope is Scope.TOKEN_USED:
                    return self._used(request)
                if scope in CALL_ITSELF and again:
                    break
                if scope not in (Scope.UNCLEAR, Scope.PACE):
                    raise Refused(scope, words_of(error)) from error
                again = again or scope is Scope.UNCLEAR
            if pause is not None:
                self._sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        if launch := self.adopt(request):
            return launch
        token = request.token
        raise LaunchError(f"launch {token}: EC2 gave no clear answer: {words_of(last or Exception())}") from last

    def adopt(self, request: Request) -> Launch | None:
        """By the token, in every state EC2 still shows; else by the receipts. Raises LaunchError without an answer."""
        token = [{"Name": "client-token", "Values": [request.token]}]
        for pause in (*ASK_AGAIN, None):
            with launcher.said_plainly("ec2:DescribeInstances"):
                if found := list(describe(self._client("ec2"), token)):
                    return _joined(request, found)
            if pause is not None:
                self._sleep(pause)
        box, known = box_of(self._client, request.launch), request.launch.ids
        ids = tuple(m for m in box.members() if m not in known) if box else ()
        return request.launch.with_ids(known + ids) if ids else None

    def _used(self, request: Request) -> Launch:
        """This token has launched before, and is over or was asked with other words: find it, never launch."""
        if launch := self.adopt(request):
            return launch
        raise Lost(f"launch {request.token} has run before, and EC2 has forgotten it: no receipt is left")

    # --- look

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        return self._looks.observe(launch, now)

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Ec2Sighting, ...]]:
        return self._looks.observe_all(launches, now)

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return self._looks.explain(launch, member)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        """A machine's log is in its receipts once it has ended; until then there is nothing to read."""
        return list

    # --- end

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        """TerminateInstances by id: idempotent, and an id that is gone is what was wanted."""
        if not launch.ids:
            return
        with launcher.said_plainly("ec2:TerminateInstances"):
            ec2 = self._client("ec2")
            self._mark(ec2, launch, why)
            try:
                with pacing.paced(ec2, "terminations in EC2", launcher.scope_of_error):
                    ec2.terminate_instances(InstanceIds=list(launch.ids))
            except ClientError as error:
                if launcher.code_of(error) != "InvalidInstanceID.NotFound":
                    raise
                for member in launch.ids:  # one unknown id refuses the whole call
                    self._stop_one(ec2, member)

    def _stop_one(self, ec2: Any, member: str) -> None:
        """EC2 may not know yet what it has just started: NotFound is believed after a few seconds."""
        for pause in (*STOP_AGAIN, None):
            try:
                ec2.terminate_instances(InstanceIds=[member])
                return
            except ClientError as error:
                if launcher.code_of(error) != "InvalidInstanceID.NotFound":
                    raise
            if pause is not None:
                self._sleep(pause)

    def _mark(self, ec2: Any, launch: Launch, why: str) -> None:
        """Best effort, and only on what is still up: the first mark is the true one."""
        try:
            up = [i["InstanceId"] for i in self._looks.instances(launch.ids) if _markable(i)]
            if up:
                ec2.create_tags(Resources=up, Tags=[{"Key": STOPPED_BY, "Value": why}])
        except FAILURES:
            return  # without the permission to tag, EC2's own reason and the deadline must do


def _markable(instance: dict[str, Any]) -> bool:
    up = instance["State"]["Name"] not in ("terminated", "shutting-down")
    return up and STOPPED_BY not in tags_of(instance.get("Tags"))


def _joined(request: Request, instances: list[dict[str, Any]]) -> Launch:
    """The launch so far with the members of one more attempt, in the order of their index."""
    came = sorted(instances, key=lambda i: i.get("AmiLaunchIndex", 0))
    return request.launch.with_ids(request.launch.ids + tuple(i["InstanceId"] for i in came))


def _temporary(form: ReportForm) -> bool:
    return any(name.lower() == "x-amz-security-token" for name in form.fields)

"""Instances that end themselves: ask for them, look at them, end them."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws import egress, launcher
from airflow_transient.aws.launcher import FAILURES, ClientFactory, Refused, words_of
from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.aws.resolve import resolve
from airflow_transient.core.ec2 import bootscript, requests
from airflow_transient.core.ec2.bootscript import Boot, ReportForm
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.receipts import Receipt, boot_evidence, parse_receipt, parse_result, receipts_on_console
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import BY_REQUEST, TAG_PREFIX, Launch, LaunchKey
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool, S3Prefix
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import LaunchError, Lost, TransientError

PHASES: dict[str, Phase] = {
    "pending": Phase.STARTING,
    "running": Phase.RUNNING,
    "shutting-down": Phase.RUNNING,
    "stopping": Phase.RUNNING,
    "stopped": Phase.ENDED,
    "terminated": Phase.ENDED,
}
#: The pauses before the same request is sent again after an answer that was no answer, in seconds.
ASK_AGAIN = (1.0, 3.0, 8.0)
#: on_kill has five seconds (Airflow's task runner).
STOP_AGAIN = (0.5, 1.0, 2.0)
#: Refusals of a call and not of what it asks for: made before EC2 looks at the token.
_CALL_ITSELF = (Scope.SPEC, Scope.ACCESS)
#: What a post-mortem reads and shows: the log object is at most this long.
LOG_LIMIT, LOG_LINES = 256 * 1024, 20
STOPPED_BY = TAG_PREFIX + "stopped-by"
#: DescribeInstances takes 200 values in one filter.
FILTER_LIMIT = 200

_MOMENT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")

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
        box = self._box(draft)
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
                if scope in _CALL_ITSELF and again:
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
                if found := list(_describe(self._client("ec2"), token)):
                    return _joined(request, found)
            if pause is not None:
                self._sleep(pause)
        box, known = self._box(request.launch), request.launch.ids
        ids = tuple(m for m in box.members() if m not in known) if box else ()
        return request.launch.with_ids(known + ids) if ids else None

    def _used(self, request: Request) -> Launch:
        """This token has launched before, and is over or was asked with other words: find it, never launch."""
        if launch := self.adopt(request):
            return launch
        raise Lost(f"launch {request.token} has run before, and EC2 has forgotten it: no receipt is left")

    # --- look

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        try:
            seen = {i["InstanceId"]: i for i in self._instances(launch.ids)}
        except (*FAILURES, LaunchError) as error:
            return tuple(Ec2Sighting(member, Phase.UNKNOWN, note=words_of(error)) for member in launch.ids)
        return tuple(
            self._sighting(launch, seen[member], now) if member in seen else self._absent(launch, member)
            for member in launch.ids
        )

    def _absent(self, launch: Launch, member: str) -> Ec2Sighting:
        """Too new for EC2, or forgotten by it, an hour after its end: then the receipt is all there is."""
        receipt, note = self._receipt(launch, member), "EC2 does not know it"
        result, fault = self._result(self._box(launch), launch, member, receipt)
        return Ec2Sighting(
            member, Phase.UNKNOWN, receipt=receipt, result=result, result_error=fault, absent=True, note=note
        )

    def _instances(self, ids: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """By filter and not by id: one unknown id fails a call that names it, a filter passes over it."""
        ec2 = self._client("ec2")
        for start in range(0, len(ids), FILTER_LIMIT):
            chunk = list(ids[start : start + FILTER_LIMIT])
            yield from _describe(ec2, [{"Name": "instance-id", "Values": chunk}])

    def _sighting(self, launch: Launch, instance: dict[str, Any], now: datetime) -> Ec2Sighting:
        member, state = instance["InstanceId"], instance["State"]["Name"]
        phase = PHASES.get(state, Phase.UNKNOWN)
        common: dict[str, Any] = {
            "state": state,
            "reason": instance.get("StateReason", {}).get("Code") or None,
            "launched": instance.get("LaunchTime"),
            "instance_type": instance.get("InstanceType"),
            "stopped_by": _tags(instance).get(STOPPED_BY),
        }
        if phase is Phase.ENDED:
            return self._ended(launch, member, common, instance)
        if phase is not Phase.RUNNING:
            return Ec2Sighting(member, phase, **common)
        started, note = self._started(launch, member)
        evidence = None
        if not started and now > launch.boot_by:  # no way out to the bucket, or no boot: the console tells which
            console = self._console(member)
            started = receipts_on_console(console, launch.nonce)[0]
            evidence = boot_evidence(console, launch.nonce)
        held = self._receipt(launch, member) if launch.hold_seconds and started else None
        return Ec2Sighting(member, phase, started=started, receipt=held, boot_evidence=evidence, note=note, **common)

    def _receipt(self, launch: Launch, member: str) -> Receipt | None:
        box = self._box(launch)
        read = box.read(member, "receipt.json") if box else None
        if read and read.data:
            return parse_receipt(_text(read.data), launch.nonce, "bucket")
        return receipts_on_console(self._console(member), launch.nonce)[1]

    def _started(self, launch: Launch, member: str) -> tuple[Receipt | None, str | None]:
        if box := self._box(launch):
            read = box.read(member, "started.json")
            return (parse_receipt(_text(read.data), launch.nonce, "bucket") if read.data else None), read.note
        return receipts_on_console(self._console(member), launch.nonce)[0], None

    def _ended(self, launch: Launch, member: str, common: dict[str, Any], instance: dict[str, Any]) -> Ec2Sighting:
        """Everything that was left behind, read after the end: a receipt written between two looks is not missed."""
        box = self._box(launch)
        read = box.read(member, "receipt.json") if box else None
        receipt = parse_receipt(_text(read.data), launch.nonce, "bucket") if read and read.data else None
        console = "" if receipt else self._console(member)
        started, told = receipts_on_console(console, launch.nonce)
        receipt = receipt or told
        result, fault = self._result(box, launch, member, receipt)
        return Ec2Sighting(
            member,
            Phase.ENDED,
            ended=_ended_at(instance) or (receipt.ended if receipt else None),
            started=started,
            receipt=receipt,
            receipt_known=read.known if read else True,
            result=result,
            result_error=fault,
            boot_evidence=None if receipt or started else boot_evidence(console, launch.nonce),
            note=read.note if read else None,
            **common,
        )

    def _result(
        self, box: ReceiptBox | None, launch: Launch, member: str, receipt: Receipt | None
    ) -> tuple[Any, str | None]:
        if receipt is None or receipt.result_bytes is None:
            return None, None
        data = box.read(member, "result.json").data if box else None
        return parse_result(data, receipt.result_bytes, launch.receipt_key(member, "result.json"))

    def _console(self, member: str) -> str:
        """The last 64 KB of what the machine printed; `Latest` is for Nitro types only, older ones refuse it."""
        for arguments in ({"Latest": True}, {}):
            try:
                return self._client("ec2").get_console_output(InstanceId=member, **arguments).get("Output") or ""
            except (*FAILURES, LaunchError):
                continue
        return ""

    # --- end

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        """TerminateInstances by id: idempotent, and an id that is gone is what was wanted."""
        if not launch.ids:
            return
        with launcher.said_plainly("ec2:TerminateInstances"):
            ec2 = self._client("ec2")
            self._mark(ec2, launch, why)
            try:
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
            up = [i["InstanceId"] for i in self._instances(launch.ids) if _markable(i)]
            if up:
                ec2.create_tags(Resources=up, Tags=[{"Key": STOPPED_BY, "Value": why}])
        except FAILURES:
            return  # without the permission to tag, EC2's own reason and the deadline must do

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        box = self._box(launch)
        log = _text(box.read(member, "job.log", LOG_LIMIT).data) if box else ""
        said = _tail("the job's last lines", log, LOG_LINES)
        # The console repeats the job's last lines; what matters there is what came before the job.
        return said or _tail("the console's last lines", self._console(member), LOG_LINES)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        """A machine's log is in its receipts once it has ended; until then there is nothing to read."""
        return list

    def _box(self, launch: Launch) -> ReceiptBox | None:
        place = S3Prefix.of(launch.receipts)
        return ReceiptBox(self._client, place) if place else None


def _tags(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}


def _markable(instance: dict[str, Any]) -> bool:
    return instance["State"]["Name"] not in ("terminated", "shutting-down") and STOPPED_BY not in _tags(instance)


def _describe(ec2: Any, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def _joined(request: Request, instances: list[dict[str, Any]]) -> Launch:
    """The launch so far with the members of one more attempt, in the order of their index."""
    came = sorted(instances, key=lambda i: i.get("AmiLaunchIndex", 0))
    return request.launch.with_ids(request.launch.ids + tuple(i["InstanceId"] for i in came))


def _tail(title: str, text: str, lines: int) -> tuple[str, ...]:
    kept = [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]
    return (f"--- {title}:", *kept) if kept else ()


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")


def _ended_at(instance: dict[str, Any]) -> datetime | None:
    """From "User initiated (2026-11-21 10:51:00 GMT)", the only place where EC2 tells the moment."""
    if found := _MOMENT.search(instance.get("StateTransitionReason") or ""):
        return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return None


def _temporary(form: ReportForm) -> bool:
    return any(name.lower() == "x-amz-security-token" for name in form.fields)

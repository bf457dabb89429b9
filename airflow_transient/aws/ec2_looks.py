"""What EC2 shows of machines, and what their jobs have left behind: in the bucket of receipts, else on the console."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from airflow_transient.aws.found import instance_ended, tags_of
from airflow_transient.aws.launcher import FAILURES, ClientFactory, words_of
from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.receipts import Receipt, boot_evidence, parse_receipt, parse_result, receipts_on_console
from airflow_transient.core.launch import STOPPED_BY, Launch
from airflow_transient.core.spec import S3Prefix
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import LaunchError

PHASES: dict[str, Phase] = {
    "pending": Phase.STARTING,
    "running": Phase.RUNNING,
    "shutting-down": Phase.RUNNING,
    "stopping": Phase.RUNNING,
    "stopped": Phase.ENDED,
    "terminated": Phase.ENDED,
}
#: What a post-mortem reads and shows: the log object is at most this long.
LOG_LIMIT, LOG_LINES = 256 * 1024, 20
#: DescribeInstances takes 200 values in one filter.
FILTER_LIMIT = 200


class Looks:
    """Looks at the machines of launches. A look that fails is a sighting, too: UNKNOWN, with the reason."""

    def __init__(self, client: ClientFactory) -> None:
        self._client = client

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        try:
            seen = {i["InstanceId"]: i for i in self.instances(launch.ids)}
        except (*FAILURES, LaunchError) as error:
            return tuple(Ec2Sighting(member, Phase.UNKNOWN, note=words_of(error)) for member in launch.ids)
        return tuple(
            self._sighting(launch, seen[member], now) if member in seen else self._absent(launch, member)
            for member in launch.ids
        )

    def _absent(self, launch: Launch, member: str) -> Ec2Sighting:
        """Too new for EC2, or forgotten by it, an hour after its end: then the receipt is all there is."""
        receipt, note = self._receipt(launch, member), "EC2 does not know it"
        result, fault = self._result(box_of(self._client, launch), launch, member, receipt)
        return Ec2Sighting(
            member, Phase.UNKNOWN, receipt=receipt, result=result, result_error=fault, absent=True, note=note
        )

    def instances(self, ids: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """By filter and not by id: one unknown id fails a call that names it, a filter passes over it."""
        ec2 = self._client("ec2")
        for start in range(0, len(ids), FILTER_LIMIT):
            chunk = list(ids[start : start + FILTER_LIMIT])
            yield from describe(ec2, [{"Name": "instance-id", "Values": chunk}])

    def _sighting(self, launch: Launch, instance: dict[str, Any], now: datetime) -> Ec2Sighting:
        member, state = instance["InstanceId"], instance["State"]["Name"]
        phase = PHASES.get(state, Phase.UNKNOWN)
        common: dict[str, Any] = {
            "state": state,
            "reason": instance.get("StateReason", {}).get("Code") or None,
            "launched": instance.get("LaunchTime"),
            "instance_type": instance.get("InstanceType"),
            "stopped_by": tags_of(instance.get("Tags")).get(STOPPED_BY),
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
        box = box_of(self._client, launch)
        read = box.read(member, "receipt.json") if box else None
        if read and read.data:
            return parse_receipt(_text(read.data), launch.nonce, "bucket")
        return receipts_on_console(self._console(member), launch.nonce)[1]

    def _started(self, launch: Launch, member: str) -> tuple[Receipt | None, str | None]:
        if box := box_of(self._client, launch):
            read = box.read(member, "started.json")
            return (parse_receipt(_text(read.data), launch.nonce, "bucket") if read.data else None), read.note
        return receipts_on_console(self._console(member), launch.nonce)[0], None

    def _ended(self, launch: Launch, member: str, common: dict[str, Any], instance: dict[str, Any]) -> Ec2Sighting:
        """Everything that was left behind, read after the end: a receipt written between two looks is not missed."""
        box = box_of(self._client, launch)
        read = box.read(member, "receipt.json") if box else None
        receipt = parse_receipt(_text(read.data), launch.nonce, "bucket") if read and read.data else None
        console = "" if receipt else self._console(member)
        started, told = receipts_on_console(console, launch.nonce)
        receipt = receipt or told
        result, fault = self._result(box, launch, member, receipt)
        return Ec2Sighting(
            member,
            Phase.ENDED,
            ended=instance_ended(instance) or (receipt.ended if receipt else None),
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

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        box = box_of(self._client, launch)
        log = _text(box.read(member, "job.log", LOG_LIMIT).data) if box else ""
        said = _tail("the job's last lines", log, LOG_LINES)
        # The console repeats the job's last lines; what matters there is what came before the job.
        return said or _tail("the console's last lines", self._console(member), LOG_LINES)


def box_of(client: ClientFactory, launch: Launch) -> ReceiptBox | None:
    """Where a launch's machines report to; None where there is only the console."""
    place = S3Prefix.of(launch.receipts)
    return ReceiptBox(client, place) if place else None


def describe(ec2: Any, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def _tail(title: str, text: str, lines: int) -> tuple[str, ...]:
    kept = [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]
    return (f"--- {title}:", *kept) if kept else ()


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")

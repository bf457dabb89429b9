"""What jobs have left behind: in the bucket of receipts, else on the machine's console."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_transient.aws import pacing
from airflow_transient.aws.found import instance_ended
from airflow_transient.aws.launcher import FAILURES, ClientFactory, scope_of_error
from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.receipts import (
    UNAVAILABLE,
    Receipt,
    boot_evidence,
    parse_receipt,
    parse_result,
    receipts_on_console,
)
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.core.spec import S3Prefix
from airflow_transient.core.verdict import Phase
from airflow_transient.errors import LaunchError

#: What a post-mortem reads and shows: the log object is at most this long.
LOG_LIMIT, LOG_LINES = 256 * 1024, 20


@dataclass(frozen=True)
class Start:
    """What was read of a running machine's job. `held`: the receipt of a job that left its machine up."""

    started: Receipt | None = None
    held: Receipt | None = None
    boot_evidence: str | None = None
    note: str | None = None


class Leavings:
    """Reads them, one member at a time. What could not be read is said so, and is never "nothing was left"."""

    def __init__(self, client: ClientFactory) -> None:
        self._client = client
        self._regions: dict[str, str] = {}

    def start(self, launch: Launch, member: str, now: datetime) -> Start:
        started, note = self._started(launch, member)
        evidence = None
        if not started and now > launch.boot_by:  # no way out to the bucket, or no boot: the console tells which
            console = self._console(member) or ""
            started = receipts_on_console(console, launch.nonce)[0]
            evidence = boot_evidence(console, launch.nonce)
        held = self._receipt(launch, member)[0] if launch.hold_seconds and started else None
        return Start(started, held, evidence, note)

    def end(self, launch: Launch, member: str, instance: dict[str, Any]) -> Ec2Sighting:
        """Everything that was left behind, read after the end: a receipt written between two looks is not missed."""
        box = self._box(launch)
        read = box.read(member, "receipt.json") if box else None
        receipt = parse_receipt(_text(read.data), launch.nonce, "bucket") if read and read.data else None
        console = "" if receipt else self._console(member)
        started, told = receipts_on_console(console or "", launch.nonce)
        receipt = receipt or told
        result, fault = self._result(box, launch, member, receipt)
        return Ec2Sighting(
            member,
            Phase.ENDED,
            ended=instance_ended(instance) or (receipt.ended if receipt else None),
            started=started,
            receipt=receipt,
            receipt_known=console is not None and (read.known if read else True),
            result=result,
            result_error=fault,
            boot_evidence=None if receipt or started else boot_evidence(console or "", launch.nonce),
            note=read.note if read else None,
        )

    def absent(self, launch: Launch, member: str) -> Ec2Sighting:
        """Too new for EC2, or forgotten by it, an hour after its end: then the receipt is all there is."""
        receipt, unread = self._receipt(launch, member)
        result, fault = self._result(self._box(launch), launch, member, receipt)
        note = f"EC2 does not know it{unread and f'; {unread}'}"
        seen = Ec2Sighting(member, Phase.UNKNOWN, receipt=receipt, receipt_known=not unread, absent=True, note=note)
        return replace(seen, result=result, result_error=fault)

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        box = self._box(launch)
        log = _text(box.read(member, "job.log", LOG_LIMIT).data) if box else ""
        said = _tail("the job's last lines", log, LOG_LINES)
        # The console repeats the job's last lines; what matters there is what came before the job.
        return said or _tail("the console's last lines", self._console(member) or "", LOG_LINES)

    def _receipt(self, launch: Launch, member: str) -> tuple[Receipt | None, str]:
        """The receipt; where there is none, what could not be read."""
        box = self._box(launch)
        read = box.read(member, "receipt.json") if box else None
        if read and read.data:
            return parse_receipt(_text(read.data), launch.nonce, "bucket"), ""
        console = self._console(member)
        receipt = receipts_on_console(console or "", launch.nonce)[1]
        unread = (read.note if read else None) or ("its console gave no answer" if console is None else "")
        return receipt, "" if receipt else unread

    def _started(self, launch: Launch, member: str) -> tuple[Receipt | None, str | None]:
        if box := self._box(launch):
            read = box.read(member, "started.json")
            return (parse_receipt(_text(read.data), launch.nonce, "bucket") if read.data else None), read.note
        return receipts_on_console(self._console(member) or "", launch.nonce)[0], None

    def _result(
        self, box: ReceiptBox | None, launch: Launch, member: str, receipt: Receipt | None
    ) -> tuple[Any, str | None]:
        if receipt is None or receipt.result_bytes is None:
            return None, None
        data = box.read(member, "result.json").data if box else None
        return parse_result(data, receipt.result_bytes, launch.receipt_key(member, "result.json"))

    def _console(self, member: str) -> str | None:
        """
        The last 64 KB of what the machine printed; None where EC2 gave no answer. `Latest` is for Nitro types only,
        older ones refuse it.
        """
        for arguments in ({"Latest": True}, {}):
            try:
                ec2 = self._client("ec2")
                with pacing.paced(ec2, "looks at EC2", scope_of_error):
                    return ec2.get_console_output(InstanceId=member, **arguments).get("Output") or ""
            except (*FAILURES, LaunchError) as error:
                if scope_of_error(error) in (Scope.PACE, Scope.UNCLEAR):
                    return None
        return ""

    def _box(self, launch: Launch) -> ReceiptBox | None:
        return box_of(self._client, launch, self._regions)


def is_last(end: Ec2Sighting, judged: bool) -> bool:
    """Whether nothing more can come of it; without a receipt, where the time to wait for one was over."""
    lacking = (end.result_error or "").startswith(UNAVAILABLE)
    told = end.receipt.final if end.receipt else judged
    return told and end.receipt_known and not lacking


def box_of(client: ClientFactory, launch: Launch, regions: dict[str, str] | None = None) -> ReceiptBox | None:
    """Where a launch's machines report to; None where there is only the console."""
    place = S3Prefix.of(launch.receipts)
    return ReceiptBox(client, place, regions) if place else None


def _tail(title: str, text: str, lines: int) -> tuple[str, ...]:
    kept = [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]
    return (f"--- {title}:", *kept) if kept else ()


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")

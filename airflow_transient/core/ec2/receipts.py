"""What a job on an instance leaves behind about its own end, as text on its way here and as a value."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

#: Bytes of JSON a job may hand back; XCom lives in Airflow's database.
RESULT_LIMIT = 16 * 1024
#: The start of a result error that is not the job's fault.
UNAVAILABLE = "result unavailable"


@dataclass(frozen=True)
class Receipt:
    """What a job left behind about its own end, from S3 or from the console.

    `phase`: "started", "end", or "cut" where the machine was shut down under the job.
    `cause`: "exit", "signal", "oom-kill", "overdue", "setup".
    """

    nonce: str
    instance: str
    phase: str
    index: int = 0
    exit_code: int | None = None
    signal: str | None = None
    cause: str | None = None
    note: str | None = None
    booted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    log_bytes: int | None = None
    result_bytes: int | None = None
    channel: str = ""

    @property
    def final(self) -> bool:
        return self.phase in ("end", "cut")


_MARKER = re.compile(r"TRANSIENT (\{.*?\})\s*$", re.MULTILINE)
_CLOUD_INIT_END = re.compile(r"Cloud-init v\. \S+ finished at .*")
_CLOUD_INIT_FAULT = re.compile(
    r".*(?:Unhandled non-multipart|Failed to run module scripts[-_]user|Exec format error).*"
)


def parse_receipt(text: str, nonce: str, channel: str) -> Receipt | None:
    """One receipt as JSON; None for what is not ours: broken, of another launch, or of another attempt."""
    try:
        said = json.loads(text)
        if said["nonce"] != nonce:
            return None
        known = {name: said[name] for name in Receipt.__dataclass_fields__ if said.get(name) is not None}
        for name in ("booted", "started", "ended"):
            if name in known:
                known[name] = datetime.fromisoformat(str(known[name]).replace("Z", "+00:00"))
        return Receipt(**known | {"channel": channel})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def receipts_on_console(console: str, nonce: str) -> tuple[Receipt | None, Receipt | None]:
    """(started, end) as the markers on a console tell; the last of each wins, a torn line is passed over."""
    found = [parse_receipt(match[1], nonce, "console") for match in _MARKER.finditer(console.replace("\r", ""))]
    started = [r for r in found if r and r.phase == "started"]
    ended = [r for r in found if r and r.final]
    return (started[-1] if started else None, ended[-1] if ended else None)


def boot_evidence(console: str, nonce: str) -> str | None:
    """Positive evidence that the machine will never reach the job: cloud-init has ended without our marker.

    No marker alone proves nothing: it may be no egress, a dead form, or an instance type whose console is late.
    """
    if f'"{nonce}"' in console:
        return None
    if fault := _CLOUD_INIT_FAULT.search(console):
        return f"cloud-init refused the boot script: {fault[0].strip()[:200]}"
    if end := _CLOUD_INIT_END.search(console):
        return f"cloud-init ended without running the boot script: {end[0].strip()[:200]}"
    return None


def parse_result(data: bytes | None, declared: int | None, address: str) -> tuple[Any, str | None]:
    """(result, what is wrong with it) from what the job wrote to $TRANSIENT_RESULT."""
    if declared is None:
        return None, None
    if declared > RESULT_LIMIT:
        kept = f"it is at {address}" if data is not None else "it was not uploaded"
        return None, f"its result has {declared:,} bytes, over the limit of {RESULT_LIMIT:,}; {kept}"
    if data is None:
        return None, f"{UNAVAILABLE}: the job wrote {declared:,} bytes that could not be read from {address}"
    try:
        return json.loads(data), None
    except ValueError as error:
        return None, f"its result is not JSON ({error}); it is at {address}"

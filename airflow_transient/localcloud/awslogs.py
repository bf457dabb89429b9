"""The awslogs driver: what a container prints becomes events of a CloudWatch Logs stream, line by line, at once.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specify-log-config.html
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

# Docker cuts a longer line in pieces: https://docs.docker.com/engine/logging/drivers/awslogs/
LONGEST = 16 * 1024


class Stream(Protocol):
    def put_log_events(self, log_events: list[dict[str, Any]]) -> str: ...


@dataclass
class Lines:
    """From bytes as they come to events of whole lines; `end` gives what has no newline yet."""

    put: Stream
    _rest: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, data: bytes) -> None:
        with self._lock:
            *lines, self._rest = (self._rest + data).split(b"\n")
            while len(self._rest) > LONGEST:
                lines.append(self._rest[:LONGEST])
                self._rest = self._rest[LONGEST:]
            self._put(lines)

    def end(self) -> None:
        with self._lock:
            self._put([self._rest])
            self._rest = b""

    def _put(self, lines: list[bytes]) -> None:
        now = int(time.time() * 1000)
        pieces = [line[at : at + LONGEST] for line in lines for at in range(0, len(line), LONGEST)]
        # CloudWatch takes no empty message, so an empty line leaves nothing.
        events = [{"timestamp": now, "message": piece.decode("utf-8", "replace").rstrip("\r")} for piece in pieces]
        events = [event for event in events if event["message"]]
        if events:
            self.put.put_log_events(events)


def options(container: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Of a container whose driver is awslogs."""
    wanted = container.get("logConfiguration") or {}
    return dict(wanted.get("options") or {}) if wanted.get("logDriver") == "awslogs" else None


def stream_name(options: Mapping[str, str], container: str, task_id: str, runtime_id: str) -> str:
    """prefix/container/task; without a prefix, which Fargate insists on, Docker's own name for the container."""
    prefix = options.get("awslogs-stream-prefix")
    return f"{prefix}/{container}/{task_id}" if prefix else runtime_id


def missing_group(group: str) -> str:
    return (
        "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed "
        "to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. "
        f"({group}) : exit status 1"
    )

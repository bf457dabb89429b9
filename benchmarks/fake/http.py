"""As much HTTP/1.1 as boto3 and aiobotocore speak: a head, a body of known length, one answer, the connection kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Told:
    body: bytes
    kind: str = "application/x-amz-json-1.1"
    status: int = 200


#: An answer, or one that takes its time.
Answer = Callable[[Asked], "Told | Coroutine[Any, Any, Told]"]


class Connection(asyncio.Protocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._buffer = b""
        self._transport: Any = None
        self._slow: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._slow is not None:
            self._slow.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (asked := self._next()) is not None:
            told = self._answer(asked)
            if isinstance(told, Told):
                self._tell(told)
            else:
                self._slow = asyncio.get_running_loop().create_task(self._tell_later(told))

    def _next(self) -> Asked | None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        method, path, _ = first.split(" ")
        return Asked(method, path, headers, rest[:length])

    async def _tell_later(self, told: Coroutine[Any, Any, Told]) -> None:
        self._tell(await told)

    def _tell(self, told: Told) -> None:
        head = (
            f"HTTP/1.1 {told.status} {HTTPStatus(told.status).phrase}\r\nContent-Type: {told.kind}\r\n"
            f"x-amzn-RequestId: 00000000-0000-0000-0000-000000000000\r\nContent-Length: {len(told.body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + told.body)

"""What a task's containers print, from their pipes to whoever gets it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sink:
    """Who gets one container's output."""

    write: Callable[[bytes], None]
    end: Callable[[], None]


class Outputs:
    """The open pipes of one task, by file descriptor. `room` is where they lie: output0, output1, …"""

    def __init__(self, room: Path) -> None:
        self._room = room
        self._open: dict[int, tuple[str, Sink]] = {}

    def make(self, containers: int) -> None:
        for number in range(containers):
            os.mkfifo(self._pipe(number), 0o600)

    def open(self, number: int, container: str, sink: Sink) -> int:
        output = os.open(self._pipe(number), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._open[output] = (container, sink)
        return output

    def _pipe(self, number: int) -> Path:
        return self._room / f"output{number}"

    def __iter__(self) -> Iterator[int]:
        return iter(self._open)

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._open

    def drain(self, output: int, *, last: bool = False) -> None:
        _, sink = self._open[output]
        with suppress(BlockingIOError):
            for _ in range(64):  # then somebody else gets a turn, however much it prints
                sink.write(os.read(output, 65536))
        if last:
            sink.end()

    def flush(self, container: str) -> None:
        """Whoever sees that it ended sees all it printed."""
        for output, (name, _) in self._open.items():
            if name == container:
                self.drain(output, last=True)

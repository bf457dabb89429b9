"""A machine's serial console: what the guest printed, of which only the end is kept, as on EC2."""

from __future__ import annotations

import threading

# GetConsoleOutput answers with the last 64 KiB.
SHOWN = 64 * 1024


class Console:
    """Bounded in memory: a guest that prints for ever costs its host `4 * SHOWN` at most, and no disk."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._text += data
            if len(self._text) > 4 * SHOWN:
                del self._text[: -2 * SHOWN]

    def read(self) -> bytes:
        with self._lock:
            return bytes(self._text)

    def last(self) -> bytes:
        return self.read()[-SHOWN:]

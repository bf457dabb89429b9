"""Guests that really run, each in its sandbox: who is alive, what they printed, and how to end them all."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from airflow_transient.localcloud.console import Console
from airflow_transient.localcloud.guest import Guest
from airflow_transient.localcloud.runner import Boot, Host, Watcher


class Resident(Protocol):
    """The thread of one sandbox, be it a machine's or a task's; key: unique, and the name of its folder."""

    @property
    def key(self) -> str: ...

    @property
    def room(self) -> Path: ...

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


@dataclass
class SandboxRunner:
    host: Host
    _guests: dict[str, Any] = field(default_factory=dict)
    _consoles: dict[str, Console] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def start(self, boot: Boot, watcher: Watcher) -> None:
        with self._lock:
            if self._closed:
                return
            console = self._consoles.setdefault(boot.name, Console())
        self.admit(Guest(self.host, boot, watcher, console, self.forget))

    def admit(self, resident: Resident) -> None:
        """Start it, and end it with the cloud; after that it calls `forget`."""
        with self._lock:
            if self._closed:
                return
            self._guests[resident.key] = resident
        resident.start()

    def stop(self, name: str) -> None:
        with self._lock:
            guest = self._guests.get(name)
        if guest is not None:
            guest.stop()

    def kill(self, name: str) -> None:
        with self._lock:
            guest = self._guests.get(name)
        if guest is not None:
            guest.kill()

    def console(self, name: str) -> Console:
        with self._lock:
            return self._consoles.get(name) or Console()

    def pids(self) -> list[int]:
        with self._lock:
            guests = list(self._guests.values())
        return [pid for guest in guests if (pid := guest.pid) is not None]

    def close(self) -> None:
        """End every guest at once, without grace, and wait for them."""
        with self._lock:
            self._closed = True
            guests = list(self._guests.values())
        for guest in guests:
            guest.kill()
        for guest in guests:
            guest.join(timeout=10)

    def forget(self, guest: Resident) -> None:
        with self._lock:
            if self._guests.get(guest.key) is guest:
                del self._guests[guest.key]
        shutil.rmtree(guest.room, ignore_errors=True)

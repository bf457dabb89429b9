"""Guests that really run, each in its sandbox: who is alive, what they printed, and how to end them all."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field

from airflow_transient.localcloud.console import Console
from airflow_transient.localcloud.guest import Guest
from airflow_transient.localcloud.runner import Boot, Host, Watcher


@dataclass
class SandboxRunner:
    host: Host
    _guests: dict[str, Guest] = field(default_factory=dict)
    _consoles: dict[str, Console] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def start(self, boot: Boot, watcher: Watcher) -> None:
        with self._lock:
            if self._closed:
                return
            console = self._consoles.setdefault(boot.name, Console())
            guest = Guest(self.host, boot, watcher, console, self._forget)
            self._guests[boot.name] = guest
        guest.start()

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

    def _forget(self, guest: Guest) -> None:
        with self._lock:
            if self._guests.get(guest.boot.name) is guest:
                del self._guests[guest.boot.name]
        shutil.rmtree(guest.room, ignore_errors=True)

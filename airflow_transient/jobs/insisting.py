"""Asking for DAG files to be parsed until they were.

Airflow forgets a request for a file that is being parsed at that moment (3.3.2, dag_processing/manager.py,
`_start_new_processes`), and what that parse has read may be from before the change. So each DAG file says in its
service DAG's description which revision of the documents it was made of, and a thread asks again until that is there.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from airflow_transient.jobs.port import AirflowUnreachable

log = logging.getLogger(__name__)

_REVISION = re.compile(r"\brevision (\d+)\b")

#: A DAG file: (bundle name, path in it).
File = tuple[str, str]


def revision_in(description: str | None) -> int | None:
    """The revision that a service DAG's description names, last of all."""
    found = _REVISION.findall(description or "")
    return int(found[-1]) if found else None


@dataclass
class Insistence:
    """
    :param told: the files that hold jobs, and the revision each was last parsed at; None: it does not say.
    :param ask: ask for these files to be parsed; what is asked for already is not asked twice.
    :param forget: offer these DAGs no more.
    :param every: seconds between looks.
    :param at_most: seconds until it gives up: Airflow parses each file now and then by itself.
    """

    told: Callable[[], Mapping[File, int | None]]
    ask: Callable[[Collection[File]], None]
    forget: Callable[[Collection[str]], None]
    every: float = 0.5
    at_most: float = 60.0
    _wanted: dict[File, tuple[int, float]] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def want(self, files: Collection[File], revision: int) -> None:
        """Asks now, and as long as needed from a thread of its own: a database that is busy now is so no more then."""
        until = monotonic() + self.at_most
        with self._lock:
            for file in files:
                before, _ = self._wanted.get(file, (0, until))
                self._wanted[file] = (max(revision, before), until)
            self._done.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._insist, name="transient-reparse", daemon=True)
                self._thread.start()
        try:
            self.ask(files)
        except AirflowUnreachable as error:
            log.warning("asking again in a moment: %s", error)

    def gone(self, dag_id: str) -> None:
        """To be forgotten once more after the next parse: one that was under way may bring it back."""
        with self._lock:
            self._gone.add(dag_id)

    def back(self, dag_ids: Iterable[str]) -> None:
        """Not gone after all."""
        with self._lock:
            self._gone.difference_update(dag_ids)

    def wait(self, seconds: float) -> bool:
        """Whether everything wanted was there after so many seconds at most."""
        return self._thread is None or self._done.wait(seconds)

    def _insist(self) -> None:
        pause = threading.Event()
        while not pause.wait(self.every):
            try:
                if missing := self._missing(self.told()):
                    self.ask(missing)
                    continue
                with self._lock:
                    gone, self._gone = self._gone, set()
                self.forget(gone)
            except Exception as error:  # nobody waits for this thread, and its next look may do better
                log.warning("cannot see whether the DAG files of jobs were parsed (%s)", type(error).__name__)
                self._missing({})
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    self._done.set()
                    return

    def _missing(self, told: Mapping[File, int | None]) -> list[File]:
        """What is still to be asked for; what took too long, and files that hold no jobs any more, are let go."""
        now = monotonic()
        with self._lock:
            for file, (revision, until) in list(self._wanted.items()):
                at = told.get(file)
                if until < now or (told and file not in told) or (at is not None and at >= revision):
                    del self._wanted[file]
            return list(self._wanted)

"""The wait for one launch, look by look, from the hands to a verdict. Whatever fails in a look changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from airflow_transient.aws.launcher import Launcher
from airflow_transient.core.judging import judge, to_stop, unseen, wait_in_words
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase, Sighting, Verdict


class Watch:
    """
    One waiting process's looks at one launch.

    AWS does not always say when something ended, or whether it forgot it; then the moment counts when that was first
    seen. That is all that is remembered here: another process starts over without harm.
    """

    def __init__(self, launcher: Launcher, launch: Launch) -> None:
        self.launcher = launcher
        self.launch = launch
        #: The job's new lines since the last call.
        self.new_lines = launcher.follow(launch)
        self._first_seen_ended: dict[str, datetime] = {}
        self._first_absent: dict[str, datetime] = {}

    def look(self, now: datetime) -> tuple[Verdict | None, str]:
        """(the verdict or None, the wait in words). What runs is paid for, so no failure here ends or stops it."""
        try:
            sightings = tuple(self._dated(s, now) for s in self.launcher.observe(self.launch, now))
        except Exception as error:  # a look has no other answer than "unknown"
            words = f"could not look ({type(error).__name__}: {error}); looking again"
            return judge(self.launch, unseen(self.launch, words), now), words
        verdict = judge(self.launch, sightings, now)
        words = wait_in_words(self.launch, sightings, now)
        failed = self._end_what_is_over(sightings, now)
        return verdict, "; ".join([words, *failed])

    def _dated(self, seen: Sighting, now: datetime) -> Sighting:
        if seen.absent:
            return replace(seen, absent_since=self._first_absent.setdefault(seen.member, now))
        self._first_absent.pop(seen.member, None)
        if seen.phase is not Phase.ENDED or seen.ended:
            return seen
        return replace(seen, ended=self._first_seen_ended.setdefault(seen.member, now))

    def _end_what_is_over(self, sightings: Sequence[Sighting], now: datetime) -> list[str]:
        """Stop what should not be there any more; what went wrong with that, in words."""
        failed = []
        for why, members in to_stop(self.launch, sightings, now).items():
            try:
                self.launcher.stop(self.launch.with_ids(members), why)
            except Exception as error:  # the next look tries again; the verdict does not depend on it
                failed.append(f"stopping it failed ({type(error).__name__}: {error})")
        return failed


def look(launcher: Launcher, launch: Launch, now: datetime) -> tuple[Verdict | None, str]:
    """One look that remembers nothing."""
    return Watch(launcher, launch).look(now)

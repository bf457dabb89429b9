"""The wait for one launch, look by look, from the hands to a verdict. Whatever fails in a look changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from airflow_transient.aws.launcher import Launcher
from airflow_transient.core.launch import AT_DEADLINE, NEVER_BOOTED, Launch
from airflow_transient.core.verdict import Phase, Sighting, Verdict, judge
from airflow_transient.core.words import wait_in_words

TERMINATED = "terminated"


class Watch:
    """
    One waiting process's looks at one launch.

    EC2 does not always say when a machine ended; then the moment it was first seen ended counts. That is all that is
    remembered here: another process starts over without harm.
    """

    def __init__(self, launcher: Launcher, launch: Launch) -> None:
        self.launcher = launcher
        self.launch = launch
        self._first_seen_ended: dict[str, datetime] = {}

    def look(self, now: datetime) -> tuple[Verdict | None, str]:
        """(the verdict or None, the wait in words). What runs is paid for, so no failure here ends or stops it."""
        try:
            sightings = tuple(self._dated(s, now) for s in self.launcher.observe(self.launch, now))
        except Exception as error:  # a look has no other answer than "unknown"
            words = f"could not look ({type(error).__name__}: {error}); looking again"
            sightings = tuple(Sighting(m, Phase.UNKNOWN, note=words) for m in self.launch.ids)
            return judge(self.launch, sightings, now), words
        verdict = judge(self.launch, sightings, now)
        words = wait_in_words(self.launch, sightings, now)
        failed = self._end_what_is_over(verdict, sightings, now)
        return verdict, f"{words}; {failed}" if failed else words

    def _dated(self, seen: Sighting, now: datetime) -> Sighting:
        if seen.phase is not Phase.ENDED or seen.ended:
            return seen
        return replace(seen, ended=self._first_seen_ended.setdefault(seen.member, now))

    def _end_what_is_over(self, verdict: Verdict | None, sightings: tuple[Sighting, ...], now: datetime) -> str | None:
        """Stop what should not be there any more; what went wrong with that, in words."""
        why = _reason_to_stop(self.launch, verdict, sightings, now)
        if why is None:
            return None
        try:
            self.launcher.stop(self.launch, why)
        except Exception as error:  # the next look tries again; the verdict does not depend on it
            return f"stopping it failed ({type(error).__name__}: {error})"
        return None


def _reason_to_stop(
    launch: Launch, verdict: Verdict | None, sightings: tuple[Sighting, ...], now: datetime
) -> str | None:
    if verdict:
        # A machine that is stopped and not terminated still costs its disk; a held one is meant to stay.
        there = any(s.phase is not Phase.UNKNOWN and s.state != TERMINATED for s in sightings)
        return AT_DEADLINE if there and not launch.hold_seconds else None
    if now >= launch.deadline:
        return AT_DEADLINE
    return NEVER_BOOTED if any(_never_boots(s) for s in sightings) else None


def _never_boots(sighting: Sighting) -> bool:
    return sighting.phase is Phase.RUNNING and sighting.boot_evidence is not None


def look(launcher: Launcher, launch: Launch, now: datetime) -> tuple[Verdict | None, str]:
    """One look that remembers nothing."""
    return Watch(launcher, launch).look(now)

"""The wait for one launch, look by look, from the hands to a verdict. Whatever fails in a look changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_transient.core.ecs.judging import EcsSighting
from airflow_transient.core.judging import judge, to_stop, unseen, wait_in_words
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Phase, Sighting, Verdict

if TYPE_CHECKING:  # it brings botocore, which takes 0.4 s to import and which an event loop should not wait for
    from airflow_transient.aws.launcher import Launcher


#: AWS's words for what runs no more and has not ended.
ON_THE_WAY_OUT = {"shutting-down", "stopping", "DEACTIVATING", "STOPPING", "DEPROVISIONING"}


@dataclass(frozen=True)
class Judged:
    """
    What one look means for the wait: the verdict or None, the wait in words, why which members are over and should not
    be there any more, and whether something of it is about to change.
    """

    verdict: Verdict | None
    words: str
    over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changing: bool = False


class Case:
    """
    What one waiting process remembers of one launch.

    AWS does not always say when something ended, or whether it forgot it; then the moment counts when that was first
    seen. That is all that is remembered here: another process starts over without harm.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._first_seen_ended: dict[str, datetime] = {}
        self._first_absent: dict[str, datetime] = {}

    def judged(self, seen: Sequence[Sighting], now: datetime) -> Judged:
        sightings = tuple(self._dated(s, now) for s in seen)
        verdict, words = judge(self.launch, sightings, now), wait_in_words(self.launch, sightings, now)
        over = to_stop(self.launch, sightings, now)
        return Judged(verdict, words, over, changing=any(map(_changing, sightings)))

    def not_seen(self, error: Exception, now: datetime) -> Judged:
        """After a look that failed as a whole."""
        words = f"could not look ({type(error).__name__}: {error}); looking again"
        return Judged(judge(self.launch, unseen(self.launch, words), now), words)

    def _dated(self, seen: Sighting, now: datetime) -> Sighting:
        if seen.absent:
            return replace(seen, absent_since=self._first_absent.setdefault(seen.member, now))
        self._first_absent.pop(seen.member, None)
        if seen.phase is not Phase.ENDED or seen.ended:
            return seen
        return replace(seen, ended=self._first_seen_ended.setdefault(seen.member, now))


def _changing(seen: Sighting) -> bool:
    stopping = isinstance(seen, EcsSighting) and seen.stopping  # ECS shows it as running for a while
    return seen.phase is Phase.STARTING or seen.state in ON_THE_WAY_OUT or (stopping or seen.unread)


class Watch:
    """One process's looks at one launch of its own."""

    def __init__(self, launcher: Launcher, launch: Launch) -> None:
        self.launcher = launcher
        self.launch = launch
        #: The job's new lines since the last call.
        self.new_lines = launcher.follow(launch)
        self._case = Case(launch)

    def look(self, now: datetime) -> tuple[Verdict | None, str]:
        """(the verdict or None, the wait in words). What runs is paid for, so no failure here ends or stops it."""
        try:
            judged = self._case.judged(self.launcher.observe(self.launch, now), now)
        except Exception as error:  # a look has no other answer than "unknown"
            judged = self._case.not_seen(error, now)
        return judged.verdict, "; ".join([judged.words, *self._end_what_is_over(judged)])

    def _end_what_is_over(self, judged: Judged) -> list[str]:
        """Stop what should not be there any more; what went wrong with that, in words."""
        failed = []
        for why, members in judged.over.items():
            try:
                self.launcher.stop(self.launch.with_ids(members), why)
            except Exception as error:  # the next look tries again; the verdict does not depend on it
                failed.append(stop_failed(error))
        return failed


def stop_failed(error: BaseException) -> str:
    return f"stopping it failed ({type(error).__name__}: {error})"


def look(launcher: Launcher, launch: Launch, now: datetime) -> tuple[Verdict | None, str]:
    """One look that remembers nothing."""
    return Watch(launcher, launch).look(now)

"""One look at a launch, from the hands to a verdict: what every wait repeats until there is one."""

from __future__ import annotations

from datetime import datetime

from airflow_transient.aws.launcher import Launcher
from airflow_transient.core.launch import AT_DEADLINE, NEVER_BOOTED, Launch
from airflow_transient.core.verdict import Phase, Sighting, Verdict, judge
from airflow_transient.core.words import wait_in_words

TERMINATED = "terminated"


def look(launcher: Launcher, launch: Launch, now: datetime) -> tuple[Verdict | None, str]:
    """(the verdict or None, the wait in words). Whatever fails is said and changes nothing: what runs is paid for."""
    try:
        return _look(launcher, launch, now)
    except Exception as error:  # a look has no other answer than "unknown"
        return None, f"could not look ({type(error).__name__}: {error}); looking again"


def _look(launcher: Launcher, launch: Launch, now: datetime) -> tuple[Verdict | None, str]:
    """Past the deadline everything is stopped, and looked at again."""
    sightings = launcher.observe(launch, now)
    verdict = judge(launch, sightings, now)
    words = wait_in_words(launch, sightings, now)
    if verdict:
        if not launch.hold_seconds and any(_still_there(s) for s in sightings):
            launcher.stop(launch)  # a stopped machine still costs its disk
        return verdict, words
    if now >= launch.deadline:
        launcher.stop(launch, AT_DEADLINE)
    elif any(_never_boots(s) for s in sightings):
        launcher.stop(launch, NEVER_BOOTED)
    return None, words


def _still_there(sighting: Sighting) -> bool:
    return sighting.phase is not Phase.UNKNOWN and sighting.state != TERMINATED


def _never_boots(sighting: Sighting) -> bool:
    return sighting.phase is Phase.RUNNING and sighting.boot_evidence is not None

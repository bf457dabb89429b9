"""Kept versions of a snapshot: which to keep, and which one a damaged snapshot can be mended with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_transient.jobs.store import Snapshot, StoreDamaged, StoreError

#: So many writes can be gone back.
KEPT = 10


def outdated(revisions: Iterable[int]) -> list[int]:
    """Of the revisions that are kept, those to throw away."""
    return sorted(revisions)[:-KEPT]


def revision_in(name: str, base: str) -> int | None:
    """`jobs.json.12` is revision 12 of jobs.json."""
    number = name.removeprefix(f"{base}.")
    return int(number) if number != name and number.isascii() and number.isdigit() else None


def damaged(place: str, why: str, revisions: Iterable[int], load: Callable[[int], bytes]) -> StoreDamaged:
    """What is said of it: the newest version that can be read, and what to do with it."""
    newest = next((revision for revision in sorted(revisions, reverse=True) if _reads(load, revision)), None)
    if newest is None:
        advice = "no kept version can be read: bring it back from a backup, or take it away to begin with no jobs"
    else:
        advice = f"the newest version that can be read is {place}.{newest}: copy that to {place} to go on with it"
    return StoreDamaged(f"{place}: {why}. It is left as it is; {advice}")


def _reads(load: Callable[[int], bytes], revision: int) -> bool:
    try:
        return Snapshot.from_json(load(revision)).revision == revision
    except (StoreError, OSError, ValueError):
        return False

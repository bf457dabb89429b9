"""What a pass of the reaper saw and did, for a log and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_transient.core.reaping import Act

DONE = {
    Act.TERMINATE: "terminated",
    Act.STOP: "stopped",
    Act.MARK: "marked",
    Act.UNMARK: "unmarked",
    Act.DELETE: "deleted",
    Act.GIVE_BACK: "given back",
    Act.LEAVE: "left",
}


@dataclass(frozen=True)
class Line:
    """One decision and what came of it: `outcome` is "terminated", "marked", … , "would be …", or an error's words."""

    region: str
    id: str
    act: Act
    reason: str
    outcome: str
    failed: bool = False
    cluster: str | None = None

    def __str__(self) -> str:
        name = f"{self.cluster}/{self.id}" if self.cluster else self.id
        return f"{self.region:<14} {name:<22} {self.outcome}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """
    What one pass saw and did. `leftovers` and `notes` are told about only; `unseen` is what could not be looked at, or
    done. A note is of what could not be looked at, and need not be where it is not used.
    """

    lines: tuple[Line, ...] = ()
    leftovers: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    dry_run: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def joined(cls, reports: Sequence[Report], dry_run: bool) -> Report:
        return cls(
            tuple(line for r in reports for line in r.lines),
            tuple(words for r in reports for words in r.leftovers),
            tuple(words for r in reports for words in r.unseen),
            dry_run,
            tuple(words for r in reports for words in r.notes),
        )

    @property
    def complete(self) -> bool:
        return not self.unseen and not any(line.failed for line in self.lines)

    @property
    def totals(self) -> dict[str, int]:
        """How many of each act; what failed counts as failed only."""
        acts = [line.act for line in self.lines if not line.failed]
        told = {DONE[act]: acts.count(act) for act in Act}
        failed = sum(line.failed for line in self.lines)
        return {**told, "failed": failed, "leftovers": len(self.leftovers), "unseen": len(self.unseen)}

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "totals": self.totals, "complete": self.complete}

    def __str__(self) -> str:
        totals = ", ".join(f"{count} {name}" for name, count in self.totals.items() if count)
        verb = "dry run, nothing was changed; it would be" if self.dry_run else "reaper"
        return "\n".join(
            [
                *map(str, self.lines),
                *(f"leftover: {words}" for words in self.leftovers),
                *(f"note: {words}" for words in self.notes),
                *(f"NOT LOOKED AT: {words}" for words in self.unseen),
                f"{verb}: {totals or 'nothing of ours is there'}",
            ]
        )

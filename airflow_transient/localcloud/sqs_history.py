"""What a queue held at any moment of the last quarter of an hour: no clock, no moto.

Law: times are seconds of one clock, and what is noted is noted in its order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

KEPT = 900.0


@dataclass(frozen=True)
class Sight:
    """A message: delayed until then, in flight until then, else to be received."""

    delayed_until: float = 0.0
    hidden_until: float = 0.0


@dataclass(frozen=True)
class Counts:
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0


@dataclass
class History:
    """entered: since when each message has been in this queue, which for a dead letter is not when it was sent."""

    entered: dict[str, float] = field(default_factory=dict)
    _now: dict[str, Sight] = field(default_factory=dict)
    _oldest: dict[str, Sight] = field(default_factory=dict)
    _changes: deque[tuple[float, str, Sight | None]] = field(default_factory=deque)

    def note(self, now: float, held: Mapping[str, Sight]) -> None:
        """All that the queue holds."""
        for name in [name for name in self._now if name not in held]:
            self._change(now, name, None)
        for name, sight in held.items():
            self.note_one(now, name, sight)

    def note_one(self, now: float, name: str, sight: Sight) -> None:
        if self._now.get(name) != sight:
            self._change(now, name, sight)

    def at(self, moment: float) -> Counts:
        held = dict(self._oldest)
        for when, name, sight in self._changes:
            if when > moment:
                break
            _apply(held, name, sight)
        delayed = sum(sight.delayed_until > moment for sight in held.values())
        in_flight = sum(sight.hidden_until > moment >= sight.delayed_until for sight in held.values())
        return Counts(len(held) - delayed - in_flight, in_flight, delayed)

    def _change(self, now: float, name: str, sight: Sight | None) -> None:
        self._changes.append((now, name, sight))
        _apply(self._now, name, sight)
        if sight is None:
            self.entered.pop(name, None)
        else:
            self.entered.setdefault(name, now)
        while self._changes[0][0] < now - KEPT:
            _, old, was = self._changes.popleft()
            _apply(self._oldest, old, was)


def _apply(held: dict[str, Sight], name: str, sight: Sight | None) -> None:
    if sight is None:
        held.pop(name, None)
    else:
        held[name] = sight

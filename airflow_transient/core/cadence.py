"""When to look next: moments that many waits share, further apart while AWS asks for it. No clock, no chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

#: Seconds. Intervals in between are rounded down: a thousand waits of one cadence meet in one look.
CADENCES = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
#: Nobody looks more often.
LEAST = 0.01
#: What may be over in a moment, or has only just been asked for, is looked at so often.
QUICK = 5.0
#: A look is stretched by so much at most, and by a factor of two at a time.
MOST = 8.0
#: A look that takes so many seconds is a slow API's.
SLOW = 10.0

A = TypeVar("A", covariant=True)


@dataclass(frozen=True)
class Looked(Generic[A]):
    """
    One look at many: an answer for each, in their order.

    `slow`: AWS asked for fewer calls. `denied`: it did not take the credentials, which newer ones may mend.
    """

    answers: Sequence[A]
    slow: bool = False
    denied: bool = False


@dataclass(frozen=True)
class Pause:
    """
    Till the next look: about so many seconds, not fewer than `least`, and never longer than till `end`, which no other
    wait shares.
    """

    seconds: float
    end: float = math.inf
    least: float = 0.0


def shared(seconds: float) -> float:
    """The cadence that waits of this interval share: the longest that is no longer; beyond the table its multiples."""
    if seconds >= CADENCES[-1]:
        return seconds // CADENCES[-1] * CADENCES[-1]
    return max((cadence for cadence in CADENCES if cadence <= seconds), default=max(seconds, LEAST))


@dataclass(frozen=True)
class Pace:
    """
    How much further apart looks are than was asked for.

    :param offset: seconds by which all moments are moved, so that two processes do not look at the same ones.
    """

    stretch: float = 1.0
    offset: float = 0.0

    def next(self, now: float, pause: Pause) -> float:
        """The moment of the next look: after `now`, and the same for all of this interval."""
        cadence = shared(pause.seconds * self.stretch)
        after = now + pause.least
        moment = (math.floor((after - self.offset) / cadence) + 1) * cadence + self.offset
        if moment <= after:  # by a rounding of the last bit
            moment += cadence
        return min(moment, now + pause.end)

    def after(self, struggled: bool, offset: float) -> Pace:
        """Twice as far apart after a look that met resistance, and elsewhere; nearer again after one that did not."""
        if struggled:
            return Pace(min(self.stretch * 2, MOST), offset)
        return Pace(max(self.stretch / 2, 1.0), self.offset) if self.stretch > 1.0 else self

"""A token bucket: so many at once, so many more a second. Time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Bucket:
    size: float
    rate: float
    left: float
    at: float

    def fill(self, now: float) -> float:
        self.left, self.at = min(self.size, self.left + self.rate * (now - self.at)), now
        return self.left


def full(size: float | None, rate: float | None, now: float) -> Bucket:
    return Bucket(size or 0.0, rate or 0.0, size or 0.0, now)


def take(buckets: Sequence[Bucket], wanted: Sequence[float], now: float) -> bool:
    """From each what is wanted of it; or from none, and False."""
    pairs = list(zip(buckets, wanted, strict=True))
    if any(bucket.fill(now) < number for bucket, number in pairs):
        return False
    for bucket, number in pairs:
        bucket.left -= number
    return True

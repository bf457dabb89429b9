"""Waiting for something to become true, instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], within: float = 10.0, every: float = 0.05) -> T:
    """What `look` answers as soon as it is true; fails with its last answer."""
    end = time.monotonic() + within
    while not (answer := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {answer!r}")
        time.sleep(every)
    return answer

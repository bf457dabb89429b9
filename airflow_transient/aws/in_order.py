"""Do several things at once and tell how each went in the order they were asked for, a few ahead and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

X = TypeVar("X")
Y = TypeVar("Y")

#: So many times what is done at once may be on its way or done and not yet asked for: a slow one holds up no other.
AHEAD = 4


def in_order(act: Callable[[X], Y], each: Iterable[X], at_once: int) -> Iterator[Y]:
    """As `map`. What has not begun when it is left, or when one raises, is not done."""
    pool = ThreadPoolExecutor(at_once)
    ahead: deque[Future[Y]] = deque()
    try:
        for one in each:
            ahead.append(pool.submit(act, one))
            if len(ahead) >= at_once * AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

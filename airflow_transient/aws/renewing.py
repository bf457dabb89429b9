"""Clients made anew after AWS has refused their credentials: a key may have been rotated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

#: Seconds between two renewals: where permission is missing, newer credentials do not help.
RENEW_EVERY = 60.0


class Renewal:
    """
    :param renew: lets clients be made anew.
    :param fresh: they have just been made: none is due yet.
    """

    def __init__(self, renew: Callable[[], None], *, fresh: bool) -> None:
        self._renew = renew
        self._last = time.monotonic() if fresh else -math.inf

    def at_times(self) -> None:
        """However often it is asked for."""
        if time.monotonic() - self._last > RENEW_EVERY:
            self._last = time.monotonic()
            self._renew()

"""What something has cost so far. A price that nobody gave is not known, and what is not known is None, never 0."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from airflow_transient.errors import SpecError

#: (name of a price, so many of it): an instance is one of its type, a Fargate task so many vCPUs and so many gigabytes.
Rates = tuple[tuple[str, float], ...]

#: EC2 and Fargate both bill a minute at least.
MIN_BILLED = timedelta(seconds=60)


def read_prices(words: str | None) -> dict[str, float]:
    """`[transient] prices`: name -> USD per hour. Raises SpecError."""
    if not words or not words.strip():
        return {}
    try:
        said = json.loads(words)
    except ValueError as error:
        raise SpecError(f"[transient] prices is no JSON ({error}): nothing has a price") from None
    if not isinstance(said, Mapping):
        raise SpecError('[transient] prices is a JSON object such as {"t3.micro": 0.0114}: nothing has a price')
    for name, price in said.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
            raise SpecError(f"[transient] prices: {name!r} has no number of USD per hour: nothing has a price")
    return {str(name): float(price) for name, price in said.items()}


def cost(rates: Rates, since: datetime | None, now: datetime, prices: Mapping[str, float]) -> float | None:
    """In USD, from `since`; None where a part of it has no price or nobody can say since when it is billed."""
    if not rates or since is None or any(name not in prices for name, _ in rates):
        return None
    hours = max(now - since, MIN_BILLED) / timedelta(hours=1)
    return sum(prices[name] * amount for name, amount in rates) * hours


def without_price(rates: Rates, prices: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(name for name, _ in rates if name not in prices)

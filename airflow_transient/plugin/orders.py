"""What a request asks for: its body as JSON, and the numbers in its query. Refusals are in the original's words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fastapi import Request

from airflow_transient.plugin import answers
from airflow_transient.plugin.answers import Refused

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


async def body(request: Request) -> bytes:
    """The raw body, for a route that runs in a thread; the guard has read it already."""
    return await request.body()


def document(raw: bytes) -> dict[str, Any]:
    """:raises Refused: malformed, ambiguous, or no object."""
    said = _parsed(raw)
    if not isinstance(said, dict):
        raise Refused(400, {"messages": {"_schema": ["Invalid input type."]}})
    return said


def _parsed(raw: bytes) -> Any:
    try:
        said = json.loads(raw, object_pairs_hook=_once, parse_constant=_no_number)
        # A lone surrogate, "\ud800", is JSON and can be written nowhere.
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        # Its own words tell a position, and nothing of the content.
        reason = str(error) if isinstance(error, json.JSONDecodeError | Ambiguous) else "this is not JSON in UTF-8"
        raise Refused(400, {"message": answers.MALFORMED, "reason": reason}) from None
    return said


class Ambiguous(ValueError):
    """Two readers of it could see two documents."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Python would take the last of two, and a reader of the request the first."""
    read = dict(pairs)
    if len(read) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = sorted(name for name, number in times.items() if number > 1)
        raise Ambiguous(f"given twice: {', '.join(twice)[:200]}")
    return read


def _no_number(name: str) -> Any:
    raise Ambiguous(f"{name} is no JSON number")


def integer(request: Request, name: str, default: int) -> int:
    """The first of that name in the query."""
    said = request.query_params.getlist(name)
    if not said:
        return default
    if not _INTEGER.fullmatch(said[0]):
        raise Refused(400, {"messages": {name: ["Not a valid integer."]}})
    return int(said[0])

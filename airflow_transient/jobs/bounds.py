"""How large a document may be, whatever stands in it: it is kept, parsed and shown with a thousand others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_transient.jobs import words

MAX_DOCUMENT = 64 * 1024
MAX_TEXT = 4 * 1024
#: What runs on the machine may be longer: EC2's own limit for it.
LONG_TEXTS = {"command": 16 * 1024, "script": 16 * 1024}
MAX_ITEMS = 100
MAX_DEPTH = 6


def too_large(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Field -> what is too much about it."""
    told = {str(name): [why] for name, value in raw.items() if (why := _why_not(value, _limit(name), 1))}
    return told or ({words.SCHEMA: [why]} if (why := _too_long(raw)) else {})


def _limit(name: Any) -> int:
    return LONG_TEXTS.get(name, MAX_TEXT) if isinstance(name, str) else MAX_TEXT


def _why_not(value: Any, limit: int, depth: int) -> str | None:
    if isinstance(value, str):
        return _bad_text(value, limit)
    if not isinstance(value, Mapping | list | tuple):
        return None
    if depth > MAX_DEPTH:
        return f"Nested deeper than {MAX_DEPTH} levels."
    if len(value) > MAX_ITEMS:
        return f"Longer than maximum length {MAX_ITEMS}."
    inner = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    return next((why for item in inner if (why := _why_not(item, limit, depth + 1))), None)


def _bad_text(value: str, limit: int) -> str | None:
    try:
        if len(value.encode()) > limit:
            return f"Longer than {limit} bytes."
    except UnicodeEncodeError:
        return "Holds half of a surrogate pair, which is no character."
    return "Holds a NUL character, which cannot be kept." if "\0" in value else None


def _too_long(raw: Mapping[str, Any]) -> str | None:
    try:
        size = len(json.dumps(dict(raw), allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError):
        return "Not a valid JSON document: it holds a number or a value that JSON has no word for."
    return f"The document has {size} bytes as JSON: {MAX_DOCUMENT} is the most." if size > MAX_DOCUMENT else None

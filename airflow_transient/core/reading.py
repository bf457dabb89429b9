"""The author's words, read into plain values. Templates render to text, so a number may arrive as a string."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from airflow_transient.errors import SpecError


def names(words: Any) -> tuple[str, ...]:
    """One name, several, or a comma-separated string (what a template renders to)."""
    if not words:
        return ()
    if isinstance(words, str):
        words = words.split(",")
    if not isinstance(words, Iterable):
        raise SpecError(f"expected a name or a list of names, not {words!r}")
    return tuple(name for name in (str(word).strip() for word in words) if name)


def pairs(words: Any, what: str) -> dict[str, str]:
    """A dict with plain values; numbers and booleans become text as JSON writes them."""
    if words is None or words == "":
        return {}
    if not isinstance(words, Mapping):
        raise SpecError(f"{what} is a dict, not {type(words).__name__}")
    for name, value in words.items():
        if not isinstance(value, str | int | float | bool):
            raise SpecError(f"{what}[{name!r}] is {type(value).__name__}: give text, a number or a boolean")
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in words.items()}


def text(words: Any, what: str) -> str | None:
    """A name without the spaces around it; None where there is none."""
    if words is None or isinstance(words, str):
        return (words or "").strip() or None
    raise SpecError(f"{what} is text, not {words!r}")


def whole(words: Any, what: str) -> int | None:
    if words is None or words == "":
        return None
    try:
        if isinstance(words, bool) or int(words) != float(words):
            raise ValueError
    except (TypeError, ValueError):
        raise SpecError(f"{what} is a whole number, not {words!r}") from None
    return int(words)


def truth(words: Any, what: str) -> bool | None:
    if words is None or isinstance(words, bool):
        return words
    try:
        return {"true": True, "false": False, "": None, "none": None}[str(words).lower()]
    except KeyError:
        raise SpecError(f"{what} is True, False or None, not {words!r}") from None


def duration(words: Any, what: str) -> timedelta:
    """A timedelta, or seconds (a number, or the text a template renders to)."""
    if isinstance(words, timedelta):
        return words
    try:
        return timedelta(seconds=float(words))
    except (TypeError, ValueError, OverflowError):
        raise SpecError(f"{what} is a timedelta or a number of seconds, not {words!r}") from None


def is_literal(words: Any) -> bool:
    """Whether nothing in it is for Airflow to fill in later: no template, and no result of another task."""
    if isinstance(words, Mapping):
        return all(map(is_literal, (*words.keys(), *words.values())))
    if isinstance(words, list | tuple):
        return all(map(is_literal, words))
    if isinstance(words, str):
        return "{{" not in words and "{%" not in words
    return words is None or isinstance(words, int | float | timedelta)

"""What is to stay as it is written: `airflow.sdk.literal`, as an operator sees it before Airflow has resolved it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import literal

from airflow_transient.core.reading import is_literal

_LITERAL = type(literal(None))


def is_kept(word: Any) -> bool:
    """Whether the author said: no template, whatever is in it."""
    return isinstance(word, _LITERAL)


def all_plain(words: Mapping[str, Any]) -> dict[str, Any]:
    """The values themselves, where they are still wrapped."""
    return {name: word.value if isinstance(word, _LITERAL) else word for name, word in words.items()}


def all_written(words: Mapping[str, Any]) -> bool:
    """Whether nothing in them is for Airflow to fill in later, so that they can be judged where the file is parsed."""
    return all(is_kept(word) or is_literal(word) for word in words.values())

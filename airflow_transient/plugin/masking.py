"""What an answer hides: what Airflow's masker calls a secret, in an environment by name as well.

Only what a writer may send back masked is masked (jobs/masked.py): the stored value then stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_transient.plugin.access import redact

BY_NAME = ("environment",)
#: Names of parameters and words on AWS: DB_PASSWORD=/prod/db is no password.
BY_VALUE = ("secrets", "tags")

#: Airflow's masker leaves shorter secrets alone, and so do we in a sentence: "1" would be hidden in every number.
MIN_LENGTH = 5


def told(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document, or a part of one, as it may be shown."""
    return {key: _told(key, value) for key, value in document.items()}


def _told(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return _hidden(key, value) if key in (*BY_NAME, *BY_VALUE) else told(value)
    if isinstance(value, list | tuple):
        return [_told("", item) for item in value]
    return value


def _hidden(key: str, words: Mapping[str, Any]) -> Any:
    return redact(dict(words)) if key in BY_NAME else {name: redact(value) for name, value in words.items()}


def without_secrets(messages: Any, body: Mapping[str, Any]) -> Any:
    """What is wrong with a body, which may repeat some of it."""
    secrets = {value for value in _secrets(body, told(body)) if len(value) >= MIN_LENGTH}
    return _without(messages, sorted(secrets, key=len, reverse=True))


def _without(said: Any, secrets: Iterable[str]) -> Any:
    if isinstance(said, Mapping):
        return {key: _without(value, secrets) for key, value in said.items()}
    if isinstance(said, list | tuple):
        return [_without(item, secrets) for item in said]
    if not isinstance(said, str):
        return said
    for secret in secrets:
        said = said.replace(secret, "***")
    return redact(said)


def _secrets(said: Any, shown: Any) -> Iterator[str]:
    """Those texts that are shown otherwise."""
    if isinstance(said, Mapping) and isinstance(shown, Mapping):
        for key, value in said.items():
            yield from _secrets(value, shown.get(key))
    elif isinstance(said, list) and isinstance(shown, list):
        for value, as_shown in zip(said, shown, strict=False):
            yield from _secrets(value, as_shown)
    elif isinstance(said, str) and said != shown:
        yield said

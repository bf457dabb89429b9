"""A value that answers show as *** comes back as *** when somebody changes what they were shown: it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_transient.jobs.words import MASK

#: The fields whose values Airflow's masker may hide.
_MASKED = ("environment", "secrets", "tags")


def unmasked(patch: Mapping[str, Any], stored: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """
    The patch, with the stored value wherever it holds what is shown of it.

    Only where it is just that, or the mask alone: were any fitting part taken for the whole, a secret could be guessed
    letter by letter.

    :param stored: the document.
    :param shown: the same as answers show it.
    """
    kept = {name: _kept(patch[name], stored.get(name), shown.get(name)) for name in _MASKED if name in patch}
    if isinstance(overrides := patch.get("overrides"), list):
        known, seen = _environments(stored), _environments(shown)
        kept["overrides"] = [_override(override, known, seen) for override in overrides]
    return {**patch, **kept}


def _environments(document: Mapping[str, Any]) -> dict[str, Any]:
    return {override["containerName"]: override.get("environment") for override in document.get("overrides", ())}


def _override(override: Any, known: Mapping[str, Any], seen: Mapping[str, Any]) -> Any:
    if not isinstance(override, Mapping) or "environment" not in override:
        return override
    name = override.get("containerName")
    if not isinstance(name, str):
        return override
    return {**override, "environment": _kept(override["environment"], known.get(name), seen.get(name))}


def _kept(said: Any, stored: Any, shown: Any) -> Any:
    if not isinstance(said, Mapping) or not isinstance(stored, Mapping):
        return said
    shown = shown if isinstance(shown, Mapping) else {}
    return {
        name: stored[name] if name in stored and _hides(text, shown.get(name)) else text for name, text in said.items()
    }


def _hides(text: Any, shown: Any) -> bool:
    return text == MASK or (isinstance(text, str) and MASK in text and text == shown)

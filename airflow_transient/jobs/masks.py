"""What Airflow's maskers know as secret is not shown, on the command line; the API does so in plugin/masking.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def masked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with what Airflow's maskers know as secret in its environment values hidden."""
    from airflow._shared.secrets_masker import redact as of_core
    from airflow.sdk.log import redact as of_sdk  # type: ignore[attr-defined]

    def told(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return of_sdk(of_core(dict(value))) if name in ("environment", "tags") else masked(value)
        return [told("", item) for item in value] if isinstance(value, list) else value

    return {name: told(name, value) for name, value in document.items()}

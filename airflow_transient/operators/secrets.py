"""What Airflow keeps secret has no place in what everybody may read who may look at the launch."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_transient.errors import SpecError

_USER_DATA = "the user data. Keep it in SSM or Secrets Manager and name the place in `secrets`"


def refuse_masked(words: Iterable[tuple[str, str]], where: str = _USER_DATA) -> None:
    """A connection's secret rendered into a job would be readable by everyone who may describe the instance."""
    # The masker of this very task; Airflow has no public way to ask it.
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    for name, text in words:
        if redact(text) != text:
            raise SpecError(f"{name} holds a value that Airflow masks as a secret; it would be readable in {where}")

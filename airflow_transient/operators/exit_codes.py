"""What the author says about the job's own exit codes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from airflow.sdk.exceptions import AirflowSkipException

from airflow_transient.core.verdict import Outcome, Verdict
from airflow_transient.errors import JobFailed, SpecError


@dataclass(frozen=True)
class ExitCodes:
    """Lists that do not overlap: after these codes retry, fail at once, or skip."""

    retry: frozenset[int] = frozenset()
    fail: frozenset[int] = frozenset()
    skip: frozenset[int] = frozenset()

    @classmethod
    def of(cls, *words: Collection[int] | int) -> ExitCodes:
        sets = [frozenset((word,) if isinstance(word, int) else map(int, word)) for word in words]
        if twice := (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2]):
            raise SpecError(f"exit codes {sorted(twice)} stand in more than one of retry_on, fail_on and skip_on")
        return cls(*sets)

    def check(self, verdict: Verdict) -> None:
        """
        Raise what the author's lists ask for; return where they say nothing.

        Of several failed members all must be named by a list to skip or to retry, and one is enough to fail.
        """
        failed = [m for m in verdict.failed if m.missed is None and m.outcome is not Outcome.CALLED_OFF]
        codes = {m.exit_code for m in failed if m.outcome is Outcome.FAILED and m.exit_code is not None}
        if verdict.outcome is not Outcome.FAILED or not codes:
            return
        alike = all(m.outcome is Outcome.FAILED and m.exit_code is not None for m in failed)
        if alike and codes <= self.skip:
            raise AirflowSkipException(f"launch {verdict.token}: exit {_list(codes)}, which skip_on_exit_codes names")
        try:
            verdict.raise_for_outcome()
        except JobFailed as error:
            error.wish = "fail" if codes & self.fail else "retry" if alike and codes <= self.retry else None
            raise


def _list(codes: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(codes)))

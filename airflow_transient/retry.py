"""Which of our errors deserve another try, and when. The only room that knows what a retry helps.

Another try does not mean another launch: it first adopts what an earlier try left alive.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_transient import errors

#: error -> what a retry does. What is not here, Airflow decides by `retries` and `retry_delay`.
DECISIONS: dict[type[BaseException], RetryDecision] = {
    errors.SpecError: RetryDecision.fail("the DAG must be changed first"),
    errors.AccessError: RetryDecision.fail("a permission must be given first"),
    errors.CapacityError: RetryDecision.retry(timedelta(minutes=5), "no room now: later"),
    errors.JobFailed: RetryDecision.fail("the job itself failed: give your own retry_policy to repeat it"),
    errors.Interrupted: RetryDecision.retry(timedelta(seconds=10), "AWS took the machine back: soon"),
    errors.Unverified: RetryDecision.fail("it may well have done its work: a person decides"),
    errors.Stopped: RetryDecision.fail("somebody stopped it on purpose"),
    KeyboardInterrupt: RetryDecision.fail("Ctrl-C in a test run"),
}


class TransientRetryPolicy(RetryPolicy):
    """The operators' default `retry_policy`; a user's own wins."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        if isinstance(exception, errors.JobFailed) and exception.wish == "retry":
            return RetryDecision.retry(reason="retry_on_exit_codes names this exit code")
        if isinstance(exception, errors.BootFailed) and try_number > 1:
            return RetryDecision.fail("it did not boot twice: look at the image")
        for kind in type(exception).__mro__:
            if kind in DECISIONS:
                return DECISIONS[kind]
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> TransientRetryPolicy:
        return cls()


transient_retry_policy = TransientRetryPolicy()

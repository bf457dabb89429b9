"""What is the same wherever one pass looks: the moment, whom to ask, what is decided, and how politely AWS is asked."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from botocore.exceptions import ClientError

from airflow_transient.aws import launcher
from airflow_transient.aws.reaper.report import DONE, Line
from airflow_transient.core import reaping
from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Owner
from airflow_transient.core.reaping import UNANSWERED, Act, Answer, Case, Decision, Found, Standing

T = TypeVar("T")

#: What Airflow says of these owners; one that is missing, or UNKNOWN, was not answered.
Ask = Callable[[Collection[Owner]], Mapping[Owner, Answer]]

#: The pauses before a throttled call is made again, in seconds.
THROTTLED_AGAIN = (1.0, 3.0, 8.0)


@dataclass(frozen=True)
class Pass:
    """One pass over all regions. `clusters`: the only ECS clusters to look at, by name or ARN; none: all of them."""

    now: datetime
    ask: Ask | None
    deployment: str | None
    dry_run: bool
    sleep: Callable[[float], None]
    clusters: tuple[str, ...] = ()

    def decide(self, region: str, found: Sequence[Found]) -> tuple[list[Decision], list[str]]:
        """One decision each, and in words what Airflow did not answer. Owners are asked for once."""
        wanted = {o for one in found if (o := reaping.owner_to_ask_for(one, self.now, self.deployment))}
        answers = self.ask(wanted) if self.ask and wanted else {}
        decisions = [reaping.decide(self._case(one, answers)) for one in found]
        missing = sorted(str(o) for o in wanted if answers.get(o, UNANSWERED).standing is Standing.UNKNOWN)
        if not self.ask or not missing:
            return decisions, []
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return decisions, [f"{region}: no answer from Airflow about {', '.join(missing[:3])}{more}"]

    def _case(self, found: Found, answers: Mapping[Owner, Answer]) -> Case:
        owner = found.owner_in(self.deployment)
        return Case(found, self.now, self.deployment, answers.get(owner, UNANSWERED) if owner else UNANSWERED)

    def line(self, region: str, decision: Decision, failed: str | None, cluster: str | None = None) -> Line:
        done = DONE[decision.act]
        outcome = f"would be {done}" if self.dry_run and decision.act is not Act.LEAVE else done
        outcome = f"COULD NOT BE {done.upper()} ({failed})" if failed else outcome
        return Line(region, decision.id, decision.act, decision.reason, outcome, failed is not None, cluster)

    def politely(self, call: Callable[[], T], scope_of: Callable[[Exception], Scope] = launcher.scope_of_error) -> T:
        """Once more after a throttled answer, a little later each time."""
        for pause in THROTTLED_AGAIN:
            try:
                return call()
            except ClientError as error:
                if scope_of(error) is not Scope.PACE:
                    raise
            self.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        return call()

    @property
    def mark(self) -> str:
        """The value of the tag that a first pass leaves."""
        return str(int(self.now.timestamp()))

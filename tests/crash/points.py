"""Where a run is killed or what else is done to it, and what there must be of it in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Tasks of a burst: two calls of RunTask.
BURST = 12
#: dag -> (whose it is in words, how many members it wants); what the provider's own does is shown, not demanded.
DAGS = {
    "deferred": ("ours, deferred", 1),
    "in_worker": ("ours, in a worker", 1),
    "stock": ("EC2CreateInstanceOperator", None),
    "burst": ("ours, deferred", BURST),
    "burst_in_worker": ("ours, in a worker", BURST),
    "stock_task": ("EcsRunTaskOperator", None),
}
MACHINES = ("deferred", "in_worker", "stock")
BURSTS = ("burst", "burst_in_worker", "stock_task")

# --- steps of the journey at which the task process is killed, in their order

ASKING = ("before prepare", "after prepare", "before writing 'asked'", "after writing 'asked'", "before launch")
BETWEEN = ("when one RunTask was answered and the other not sent", "when the first RunTask was answered")
PLACING = (
    "after launch",
    "before writing 'placed in part'",
    "after writing 'placed in part'",
    "before writing 'placed'",
    "after writing 'placed'",
)
TELLING = ("before writing 'told succeeded'", "after writing 'told succeeded'")
DEFERRED = (*ASKING, *PLACING, "before deferring", "before execute_complete", *TELLING, "after execute_complete")
IN_WORKER = (*ASKING, *PLACING, "before observe", "after observe", *TELLING)
STOCK = ("before launch", "after launch")
BURST_DEFERRED = (
    *("before writing 'asked'", "after writing 'asked'", *BETWEEN, "after launch", "before writing 'placed'"),
    *("after writing 'placed'", "before deferring", "before execute_complete", *TELLING),
)
BURST_IN_WORKER = (BETWEEN[0], "after launch", "after observe", *TELLING)
#: One task is taken back by AWS and launched again: steps of that second round.
REPLACING = (
    "before writing 'another round'",
    "after writing 'another round'",
    "after writing 'asked again'",
    "after writing 'placed in part again'",
)

# --- no kill of the task's own process

NEVER = "never"
#: Unclear answers: the call takes effect and the connection is reset before it says so.
MACHINE_LOST, BURST_LOST = "answer of RunInstances lost", "answer of RunTask lost"
LOST = {MACHINE_LOST: "RunInstances", BURST_LOST: "RunTask"}
#: The whole triggerer, while the run is deferred.
TRIGGERER = "while deferred, the triggerer"
#: What a person does to a deferred task -> (launches, verdict).
ACTS = {"cleared": (2, "succeeded"), "marked failed": (1, "failed"), "marked success": (1, "success")}

STEPS = {
    "deferred": (*DEFERRED, MACHINE_LOST, NEVER, TRIGGERER, *ACTS),
    "in_worker": (*IN_WORKER, MACHINE_LOST, NEVER),
    "stock": (*STOCK, MACHINE_LOST),
    "burst": (*BURST_DEFERRED, *REPLACING, BURST_LOST, NEVER, TRIGGERER, *ACTS),
    "burst_in_worker": (*BURST_IN_WORKER, BURST_LOST),
    "stock_task": ("after launch",),
}
#: The points that matter most, for the tests.
_MOST = ("after writing 'asked'", "after launch", "before writing 'placed'")
SHORT = {
    **STEPS,
    "deferred": (*_MOST, "before deferring", "before execute_complete", MACHINE_LOST, NEVER, TRIGGERER, *ACTS),
    "in_worker": (*_MOST, MACHINE_LOST, NEVER),
    "stock": ("after launch",),
    "burst": (BETWEEN[0], "after writing 'another round'", BURST_LOST, "cleared"),
    "burst_in_worker": (),
}


@dataclass(frozen=True)
class Point:
    dag: str
    at: str

    @property
    def step(self) -> str:
        """Where its process kills itself; empty: nowhere."""
        return "" if self.at in (NEVER, TRIGGERER, *LOST, *ACTS) else self.at

    @property
    def taken_back(self) -> bool:
        """Whether AWS takes one of its tasks back."""
        return self.at in REPLACING

    @property
    def met(self) -> bool:
        """Whether something is done to it from outside while its first try's job runs, which goes on till then."""
        return self.taken_back or self.at in (TRIGGERER, *ACTS)


@dataclass(frozen=True)
class Row:
    """What there was of one run in the end."""

    dag: str
    at: str
    launched: int
    left: int
    jobs: int | None
    verdict: str


#: run id -> what happens to it.
Runs = Mapping[str, Point]


def plan(short: bool) -> Runs:
    points = [Point(dag, at) for dag, steps in (SHORT if short else STEPS).items() for at in steps]
    return {f"run-{number:02d}": point for number, point in enumerate(points)}


def as_promised(row: Row) -> bool:
    wanted = DAGS[row.dag][1]
    if wanted is None:
        return True
    launches, verdict = ACTS.get(row.at, (1, "succeeded"))
    launched = wanted * launches + (row.at in REPLACING)
    return (row.launched, row.left, row.verdict) == (launched, 0, verdict) and row.jobs in _jobs(row, wanted)


def _jobs(row: Row, wanted: int) -> tuple[int, ...]:
    """A machine marks its job's beginning, which an act may come before; a burst's tasks mark their end."""
    if row.at not in ACTS:
        return (wanted,)
    if row.dag in MACHINES:
        return (0, 1, 2)
    return (wanted if row.at == "cleared" else 0,)

"""What a person stopped on the page is told as that, and nothing is launched in its place."""

from __future__ import annotations

import pytest

from airflow_transient import errors
from airflow_transient.core.launch import BY_PERSON, BY_REQUEST
from airflow_transient.core.launch import Launch as Handle
from airflow_transient.retry import transient_retry_policy
from airflow_transient.testing import FakeEcsLauncher, FakeLauncher
from tests.airflow import test_burst, test_journey
from tests.airflow.legs import away, event
from tests.airflow.stubs import Store, context

WORDS = "stopped by a person, on Airflow's page of what runs"


def stop(world: FakeLauncher, handle: dict[str, object], why: str) -> None:
    world.stop(Handle.from_dict(handle), why)


def test_the_wait_tells_it_and_no_try_follows(world: FakeLauncher) -> None:
    op, ctx = test_journey.operator(), context()
    trigger = test_journey.defer(op, ctx)
    stop(world, ctx["ti"].xcoms["launch"], BY_PERSON)
    with pytest.raises(errors.Stopped, match=WORDS) as told:
        op.execute_complete(ctx, event=event(trigger))
    assert transient_retry_policy.evaluate(told.value, 1, 3).action.value == "fail"


@pytest.mark.parametrize(("why", "launches"), [(BY_PERSON, 1), (BY_REQUEST, 2)], ids=["a person", "Airflow itself"])
def test_between_two_tries(world: FakeLauncher, why: str, launches: int) -> None:
    """The one that waited has died; what Airflow itself has killed is over, and the next try launches anew."""
    store = Store()
    ctx = context(store)
    test_journey.defer(test_journey.operator(), ctx)
    stop(world, ctx["ti"].xcoms["launch"], why)
    again = context(store, try_number=2)
    trigger = test_journey.defer(test_journey.operator(), again)
    if why == BY_PERSON:
        with pytest.raises(errors.Stopped, match=WORDS):
            test_journey.operator().execute_complete(again, event=event(trigger))
    assert [name for name, _ in world.calls].count("launch") == launches


def test_a_burst_starts_none_in_the_place_of_those(tasks: FakeEcsLauncher) -> None:
    op, ctx = test_burst.operator(), context()
    trigger = away(op.execute, ctx)
    stop(tasks, ctx["ti"].xcoms["launch"], BY_PERSON)
    with pytest.raises(errors.Stopped, match=WORDS):
        op.execute_complete(ctx, event=event(trigger))
    assert [name for name, _ in tasks.calls].count("launch") == 1

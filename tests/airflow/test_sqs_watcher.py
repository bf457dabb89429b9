"""The watcher of an asset: rings on edges, shares its polls, and survives whatever happens to it."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager

from airflow_transient.core.depth import Depth, Unread
from airflow_transient.errors import AccessError, SpecError
from airflow_transient.triggers import sqs as triggers
from airflow_transient.triggers.sqs import Snapshot, SqsDepthEventTrigger
from tests.airflow.stubs import Queue

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
Tick = tuple[float, int | None]


class AssetStore:
    """An asset's state store, which may be away for some calls."""

    def __init__(self, away: int = 0, error: type[Exception] = RuntimeError) -> None:
        self.kept: dict[str, Any] = {}
        self.away, self.error = away, error

    async def aget(self, key: str) -> Any:
        self._answer()
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self._answer()
        self.kept[key] = value

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise self.error("the API server is away")


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "BACK_OFF", (0.01, 0.02))


def watcher(**words: Any) -> SqsDepthEventTrigger:
    return SqsDepthEventTrigger(**{"queues": "jobs", "at_least": 10, "poll_interval": 0.01, **words})


def again(trigger: SqsDepthEventTrigger, store: Any = None) -> SqsDepthEventTrigger:
    """As another triggerer would make it."""
    made = SqsDepthEventTrigger(**trigger.serialize()[1], from_a_later_version=True)
    made.asset_state_store = store
    return made


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


async def stream_of(ticks: Sequence[Tick], queue: str = "jobs") -> AsyncIterator[Snapshot]:
    for second, seen in ticks:
        yield Snapshot(Unread(queue, "throttled") if seen is None else (Depth(queue, seen),), at(second))


def events(trigger: SqsDepthEventTrigger, ticks: Sequence[Tick]) -> list[int]:
    async def all_of_them() -> list[int]:
        return [event.payload["visible"] async for event in trigger.filter_shared_stream(stream_of(ticks))]

    return asyncio.run(asyncio.wait_for(all_of_them(), 10))


async def first(trigger: SqsDepthEventTrigger, count: int = 1) -> list[TriggerEvent]:
    found: list[TriggerEvent] = []
    async with aclosing(trigger.run()) as told:
        while len(found) < count:
            found.append(await asyncio.wait_for(anext(told), 10))
    return found


def test_it_rings_on_edges_after_its_cooldown_and_when_it_is_rearmed() -> None:
    ticks: list[Tick] = [(0, 3), (1, 10), (2, 11), (3, 2), (4, 12), (62, 13), (63, 3), (64, 14), (200, 15), (201, 2)]
    assert events(watcher(rearm_at=2), [*ticks, (202, 16)]) == [10, 13, 16]


def test_it_repeats_while_it_goes_on() -> None:
    assert events(watcher(repeat_every=timedelta(hours=1)), [(0, 10), (3599, 11), (3600, 12), (3700, 13)]) == [10, 12]


def test_no_answer_rings_nothing_and_re_arms_nothing() -> None:
    assert events(watcher(cooldown=0), [(0, 10), (1, None), (2, 11), (3, 1), (4, None), (5, 12)]) == [10, 12]


def test_what_is_told() -> None:
    (event,) = _payloads(watcher(messages_per_task=5, max_count=3), [(0, 20)])
    assert event["readings"][0]["visible"] == event["visible"] == 20
    assert event["size"]["count"] == 3


def _payloads(trigger: SqsDepthEventTrigger, ticks: Sequence[Tick], queue: str = "jobs") -> list[Any]:
    async def all_of_them() -> list[Any]:
        return [event.payload async for event in trigger.filter_shared_stream(stream_of(ticks, queue))]

    return asyncio.run(all_of_them())


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_a_restart_neither_repeats_nor_forgets() -> None:
    store = AssetStore()
    assert events(again(watcher(), store), [(0, 10)]) == [10]
    assert events(again(watcher(), store), [(100, 11)]) == []
    assert events(again(watcher(), store), [(200, 9)]) == []
    assert events(again(watcher(), store), [(300, 12)]) == [12]


def test_the_cooldown_outlives_a_restart() -> None:
    store = AssetStore()
    assert events(again(watcher(), store), [(0, 10), (1, 2)]) == [10]
    assert events(again(watcher(), store), [(2, 11), (59, 12), (60, 13)]) == [13]


def test_whoever_dies_with_an_event_in_hand_tells_it_again() -> None:
    store = AssetStore()

    async def killed() -> None:
        async with aclosing(again(watcher(), store).filter_shared_stream(stream_of([(0, 10)]))) as told:
            await anext(told)

    asyncio.run(killed())
    assert store.kept == {}
    assert events(again(watcher(), store), [(1, 10)]) == [10]


def test_another_condition_is_another_watch() -> None:
    store = AssetStore()
    assert events(again(watcher(), store), [(0, 60)]) == [60]
    assert events(again(watcher(at_least=50), store), [(100, 60)]) == [60]
    assert events(again(watcher(poll_interval=5, messages_per_task=2), store), [(100, 60)]) == []


def test_a_store_that_is_away_is_asked_again() -> None:
    store = AssetStore()
    events(again(watcher(), store), [(0, 10)])
    store.away = 3
    assert events(again(watcher(), store), [(100, 10)]) == []
    store.away = 1
    assert events(again(watcher(), store), [(200, 1), (201, 1), (202, 12)]) == [12]
    assert list(store.kept.values()) == [{"armed": False, "fired_at": at(202).isoformat()}]


def test_one_trigger_for_two_assets_keeps_its_state_in_memory() -> None:
    """Airflow then has no single store: AssetStateStoreAccessors raises ValueError."""
    assert events(again(watcher(), AssetStore(away=9, error=ValueError)), [(0, 10), (100, 11)]) == [10]


# --- nothing ends it --------------------------------------------------------------------------------------------------


def test_no_error_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(SpecError("no queue"), AccessError("not allowed"), RuntimeError("a bug"), 10)
    monkeypatch.setattr(triggers, "make_reader", queue)
    (event,) = asyncio.run(first(watcher()))
    assert event.payload["visible"] == 10
    assert queue.taken == 4


@pytest.mark.parametrize(
    ("failed", "least", "most"), [(1, 2.5, 5), (2, 5, 10), (5, 40, 80), (9, 150, 300), (99, 150, 300)]
)
def test_it_backs_off_with_jitter(monkeypatch: pytest.MonkeyPatch, failed: int, least: float, most: float) -> None:
    monkeypatch.setattr(triggers, "BACK_OFF", (5.0, 300.0))
    drawn = {triggers._pause(failed) for _ in range(50)}
    assert least <= min(drawn) < max(drawn) <= most


def test_words_of_another_version_do_not_end_the_triggerer() -> None:
    """Airflow 3.3 catches nothing but TypeError where it makes a trigger."""
    kwargs = {**watcher().serialize()[1], "at_least": None}
    wrong = SqsDepthEventTrigger(**kwargs)
    with pytest.raises(SpecError):  # then Airflow takes run()
        wrong.shared_stream_key()

    async def rests() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(wrong.run()), 0.1)

    asyncio.run(rests())


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        ({"at_least": None}, SpecError, "no condition"),
        ({"rearm_at": 10}, SpecError, "below at_least"),
        ({"poll_interval": 0}, SpecError, "poll_interval is 0"),
        ({"at_leats": 3}, TypeError, "at_leats"),
    ],
)
def test_an_author_s_wrong_word_is_said_where_the_file_is_parsed(
    words: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        watcher(**words)


# --- one poll for all -------------------------------------------------------------------------------------------------


async def shared(watchers: dict[int, SqsDepthEventTrigger], rounds: int) -> dict[int, list[int]]:
    """As the triggerer's runner does: subscribe, filter, unsubscribe."""
    manager = SharedStreamManager()
    told: dict[int, list[int]] = {number: [] for number in watchers}

    async def run_trigger(number: int, trigger: SqsDepthEventTrigger) -> None:
        key = trigger.shared_stream_key()
        stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                told[number].append(event.payload["visible"])
        finally:
            await manager.unsubscribe(number, key)

    running = [asyncio.ensure_future(run_trigger(*each)) for each in watchers.items()]
    while not all(len(found) >= rounds for found in told.values()):
        await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return told


def test_three_watchers_of_a_queue_are_one_poll_per_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(0, 60, 0, 60, 0)
    monkeypatch.setattr(triggers, "make_reader", queue)
    limits = {1: 10, 2: 20, 3: 60}
    watchers = {n: again(watcher(at_least=limit, cooldown=0, poll_interval=0.1)) for n, limit in limits.items()}
    told = asyncio.run(asyncio.wait_for(shared(watchers, rounds=2), 10))
    assert told == {1: [60, 60], 2: [60, 60], 3: [60, 60]}
    assert queue.taken <= 6


def test_who_shares_a_poll() -> None:
    key = watcher(queues="a,b").shared_stream_key()
    assert watcher(queues=["b", "a"], at_least=None, drained=True, cooldown=5).shared_stream_key() == key
    others = [{"queues": "a"}, {"poll_interval": 60}, {"region_name": "us-east-1"}, {"oldest_older_than": 9}]
    assert all(watcher(**{"queues": "a,b", **words}).shared_stream_key() != key for words in others)


def test_the_queues_keep_their_author_s_order(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(10)
    queue.queues = ("a", "b")
    monkeypatch.setattr(triggers, "make_reader", queue)
    (event,) = asyncio.run(first(watcher(queues="b,a")))
    assert [reading["queue"] for reading in event.payload["readings"]] == ["b", "a"]


# --- with Airflow and the local cloud ---------------------------------------------------------------------------------


@pytest.mark.sandbox
def test_on_the_local_cloud(on_the_cloud: Any) -> None:
    sqs = on_the_cloud.client("sqs")
    url = sqs.create_queue(QueueName="watched")["QueueUrl"]
    for number in range(3):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    watching = watcher(queues="watched", at_least=3, cooldown=0, repeat_every=0.01)
    told = asyncio.run(first(watching, count=3))
    assert [event.payload["visible"] for event in told] == [3, 3, 3]
    assert on_the_cloud.queue_calls("watched")["ReceiveMessage"] == 0
    assert on_the_cloud.queue_calls("watched")["GetQueueAttributes"] >= 3


@pytest.mark.airflow
def test_the_example_is_a_dag_that_airflow_can_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed, serialised with its watcher, and its task run on an event such as the watcher makes."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    made: list[DAG] = []
    leave = DAG.__exit__
    monkeypatch.setattr(DAG, "__exit__", lambda dag, *error: made.append(dag) or leave(dag, *error))
    example = runpy.run_path(str(Path(__file__).resolve().parents[2] / "dags" / "on_queue_depth.py"))
    (dag,) = made
    assert "SqsDepthEventTrigger" in str(DagSerialization.to_dict(dag))
    payload = _payloads(example["enough"], [(0, 12)], "orders")[0]
    event = type("Event", (), {"extra": {"from_trigger": True, "payload": payload}})()
    assert example["look"].function({example["orders_waiting"]: [event]})["size"]["count"] == 3
    assert example["look"].function(None) is None

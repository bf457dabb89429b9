"""EightFieldCronTimetable as Airflow asks it: which run is next, at any moment, whatever was parsed in between."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from hypothesis import given
from hypothesis import strategies as st

from airflow_transient.errors import SpecError
from airflow_transient.timetables.cron import EightFieldCronTimetable
from tests.core.test_schedule_laws import always

pytestmark = pytest.mark.airflow

UTC = timezone.utc
DOCS = Path(__file__).parents[2] / "docs" / "schedules.md"


def at(text: str) -> pendulum.DateTime:
    """A time of 4 March 2026, a Wednesday."""
    return pendulum.parse(f"2026-03-04T{text}Z")  # type: ignore[return-value]


class Told(EightFieldCronTimetable):
    """Told what the clock shows."""

    clock = datetime(2026, 3, 4, tzinfo=UTC)

    def _now(self) -> datetime:
        return self.clock


def told(clock: str, schedule: str, **words: Any) -> Told:
    timetable = Told(schedule, **words)
    timetable.clock = at(clock)
    return timetable


def next_run(
    timetable: EightFieldCronTimetable,
    last: datetime | None = None,
    earliest: datetime | None = None,
    latest: datetime | None = None,
    catchup: bool = False,
) -> DagRunInfo | None:
    return timetable.next_dagrun_info(
        last_automated_data_interval=last and DataInterval.exact(last),  # type: ignore[arg-type]
        restriction=TimeRestriction(earliest, latest, catchup),  # type: ignore[arg-type]
    )


#: now, schedule and its words, what Airflow asks -> the next run
RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str | None]] = {
    "the first run is to come": ("10:40:00.5", {}, {}, "10:41:00"),
    "the first run is now": ("10:40:00", {}, {}, "10:40:00"),
    "the first run is not made up for": ("10:40:05", {"grace": timedelta(hours=1)}, {}, "10:41:00"),
    "nor with a start date": ("10:40:05", {}, {"earliest": at("10:00:00")}, "10:41:00"),
    "a start date to come": ("10:40:05", {}, {"earliest": at("11:00:00")}, "11:00:00"),
    "the run after the last": ("10:40:05", {}, {"last": at("10:40:00")}, "10:41:00"),
    "a fire that the scheduler has not seen yet": ("10:40:05", {}, {"last": at("10:39:00")}, "10:40:00"),
    "of several within the grace the last": (
        "10:40:05",
        {"grace": timedelta(minutes=9)},
        {"last": at("10:00:00")},
        "10:40:00",
    ),
    "the grace is inclusive": ("10:41:00", {"schedule": "0 40"}, {"last": at("09:40:00")}, "10:40:00"),
    "past the grace": ("10:41:00.000001", {"schedule": "0 40"}, {"last": at("09:40:00")}, "11:40:00"),
    "no grace": ("10:40:00.000001", {"grace": timedelta()}, {"last": at("10:39:00")}, "10:41:00"),
    "a last run in the future": ("10:40:05", {}, {"last": at("12:00:00")}, "12:01:00"),
    "an end date": ("10:40:05", {}, {"last": at("10:40:00"), "latest": at("10:41:00")}, "10:41:00"),
    "past the end date": ("10:40:05", {}, {"last": at("10:40:00"), "latest": at("10:40:59")}, None),
    "a document: since it was made": ("10:40:05", {"not_before": at("10:39:59")}, {}, "10:40:00"),
    "a document: made at the tick": ("10:40:05", {"not_before": at("10:40:00")}, {}, "10:40:00"),
    "a document: not before it was made": ("10:40:05", {"not_before": at("10:40:00.1")}, {}, "10:41:00"),
    "a document: resumed after its last run": (
        "10:40:05",
        {"not_before": at("10:40:03"), "grace": timedelta(hours=1)},
        {"last": at("09:00:00")},
        "10:41:00",
    ),
    "a document: made in a moment to come": ("10:40:05", {"not_before": at("10:50:30")}, {}, "10:51:00"),
    "its own start": ("10:40:05", {"start": at("11:00:00")}, {"last": at("10:00:00")}, "11:00:00"),
    "its own end": ("10:40:05", {"end": at("10:40:30")}, {"last": at("10:40:00")}, None),
    "catch up: from the start date": ("10:40:05", {}, {"earliest": at("08:00:00"), "catchup": True}, "08:00:00"),
    "catch up: one after the other": (
        "10:40:05",
        {},
        {"earliest": at("08:00:00"), "last": at("08:07:00"), "catchup": True},
        "08:08:00",
    ),
    "catch up: without a start date": ("10:40:05", {}, {"catchup": True}, "10:41:00"),
    "catch up: a document, not before it was made": (
        "10:40:05",
        {"not_before": at("10:00:30")},
        {"earliest": at("08:00:00"), "catchup": True},
        "10:01:00",
    ),
    "it never fires": ("10:40:05", {"schedule": "0 0 0 * * 30 2"}, {}, None),
}


@pytest.mark.parametrize(("now", "words", "asked", "fire"), RUNS.values(), ids=RUNS)
def test_the_next_run(now: str, words: dict[str, Any], asked: dict[str, Any], fire: str | None) -> None:
    run = next_run(told(now, **{"schedule": "0", **words}), **asked)
    assert run == (fire and DagRunInfo.exact(at(fire)))
    assert run is None or isinstance(run.run_after, pendulum.DateTime)


def noted(run: DagRunInfo | None) -> Any:
    """What Airflow keeps of a next run in its table of DAGs."""
    if run is None:
        return SimpleNamespace(
            **dict.fromkeys(("next_dagrun_create_after", "next_dagrun", "next_dagrun_data_interval"))
        )
    return SimpleNamespace(
        next_dagrun_create_after=run.run_after,
        next_dagrun=run.logical_date,
        next_dagrun_data_interval=run.data_interval,
        next_dagrun_partition_date=None,
        next_dagrun_partition_key=None,
    )


#: now, the words, what was noted -> what is run
NOTED = {
    "on time": ("10:40:01", {"not_before": at("09:00:00")}, "10:40:00", "10:40:00"),
    "a newer one within the grace": ("10:42:01", {"not_before": at("09:00:00")}, "10:40:00", "10:42:00"),
    "one to come": ("10:40:01", {"not_before": at("09:00:00")}, "10:41:00", "10:41:00"),
    "nothing within the grace: as Airflow has it": (
        "10:41:59",
        {"schedule": "0 0", "not_before": at("09:00:00")},
        "10:00:00",
        "10:00:00",
    ),
    "a DAG file's, which may catch up: as Airflow has it": ("10:42:01", {}, "10:40:00", "10:40:00"),
}


@pytest.mark.parametrize(("now", "words", "was", "run"), NOTED.values(), ids=NOTED)
def test_what_was_noted_as_next_may_be_old(now: str, words: dict[str, Any], was: str, run: str) -> None:
    model = noted(DagRunInfo.exact(at(was)))
    made = told(now, **{"schedule": "0", **words}).next_run_info_from_dag_model(dag_model=model)
    assert made == DagRunInfo.exact(at(run))


def test_where_nothing_is_noted_nothing_is_run() -> None:
    timetable = told("10:40:01", "0", not_before=at("09:00:00"))
    assert timetable.next_run_info_from_dag_model(dag_model=noted(None)) is None


class Airflow:
    """Its part, small: a parse notes the next run, a look of the scheduler makes it when it is due."""

    def __init__(self, timetable: Told) -> None:
        self.timetable = timetable
        self.runs: list[datetime] = []
        self.noted: DagRunInfo | None = None

    def parse(self) -> None:
        self.noted = next_run(self.timetable, last=self.runs[-1] if self.runs else None)

    def look(self) -> None:
        if self.noted and self.noted.run_after <= self.timetable.clock:
            made = self.timetable.next_run_info_from_dag_model(dag_model=noted(self.noted))
            assert made is not None
            self.runs.append(made.run_after)
            self.parse()


steps = st.lists(st.tuples(st.floats(0.01, 1.5), st.sampled_from(["parse", "look"])), min_size=20, max_size=80)


@always
@given(steps, st.booleans())
def test_no_fire_is_lost_or_doubled_however_often_the_file_is_parsed(
    steps: list[tuple[float, str]], document: bool
) -> None:
    timetable = told("10:00:00.5", "*/5", not_before=at("10:00:00.5") if document else None)
    airflow = Airflow(timetable)
    airflow.runs = [] if document else [at("10:00:00")]
    airflow.parse()
    seen = 0.0
    for wait, step in steps:
        timetable.clock += timedelta(seconds=wait)
        seen += wait
        # The scheduler looks within each period, though now and then the parser comes first.
        step = "look" if seen > 3 else step
        seen = 0 if step == "look" else seen
        getattr(airflow, step)()
    timetable.clock += timedelta(seconds=0.01)
    airflow.look()
    wanted = [at("10:00:05").add(seconds=5 * number) for number in range(400)]
    assert airflow.runs[not document :] == [tick for tick in wanted if tick <= timetable.clock]


@pytest.mark.parametrize("parsed", [True, False], ids=["parsed meanwhile", "nobody parses"])
@pytest.mark.parametrize("back", ["10:00:33", "10:03:33"])
def test_after_a_stop_the_last_missed_fire_is_run_once(parsed: bool, back: str) -> None:
    timetable = told("10:00:00.5", "*/5", not_before=at("10:00:00.5"))
    airflow = Airflow(timetable)
    airflow.parse()
    timetable.clock = at(back)
    if parsed:
        airflow.parse()
    for _ in range(3):
        airflow.look()
    assert airflow.runs == [at(back).replace(second=30)]


# --- what Airflow shows and keeps

FULL: dict[str, Any] = {
    "schedule": "? 30 9 mon-fri",
    "timezone": "europe/berlin",
    "start": datetime(2026, 1, 1),
    "end": datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    "seed": "nightly",
    "not_before": at("10:00:00.5"),
    "grace": timedelta(minutes=5),
}


@pytest.mark.parametrize("words", [{"schedule": "0 */5"}, FULL], ids=["short", "full"])
def test_it_comes_back_from_the_database_as_it_was(words: dict[str, Any]) -> None:
    """encode_timetable raises for one that no plugin has registered."""
    timetable = EightFieldCronTimetable(**words)
    kept = json.loads(json.dumps(encode_timetable(timetable)))
    assert decode_timetable(kept) == timetable
    assert hash(decode_timetable(kept)) == hash(timetable)
    assert decode_timetable(kept).serialize() == timetable.serialize()


def test_a_wildcard_stays_what_it_is_at_each_parse() -> None:
    said = {EightFieldCronTimetable("? ? 4", seed="nightly").summary for _ in range(9)}
    assert len(said) == 1
    assert re.fullmatch(r"\d+ \d+ 4", said.pop())
    assert EightFieldCronTimetable("? ? 4", seed="weekly") != EightFieldCronTimetable("? ? 4", seed="nightly")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"schedule": "? ? 4"}, r'has a "\?", which needs EightFieldCronTimetable\(\.\.\., seed="\.\.\."\)'),
        ({"schedule": "60"}, "Invalid schedule syntax: Error validating expression '60'"),
        ({"schedule": None}, "Invalid schedule syntax: a schedule is a text"),
        ({"schedule": "0", "timezone": "FOO"}, "Invalid timezone format: FOO"),
        ({"schedule": "0", "grace": timedelta(seconds=-1)}, "grace is -1 day, 23:59:59: it must be 0 or more"),
    ],
)
def test_what_it_cannot_do_it_says_where_the_dag_is_written(words: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        EightFieldCronTimetable(**words)


def test_the_list_of_dags_shows_the_schedule() -> None:
    timetable = EightFieldCronTimetable("0 30 9", "Europe/Berlin")
    assert timetable.summary == "0 30 9 (Europe/Berlin)"
    assert timetable.description == "second 0, minute 30, hour 9; Europe/Berlin"
    timetable.validate()


def test_one_that_never_fires_is_said_so_and_breaks_nothing() -> None:
    timetable = EightFieldCronTimetable("0 0 0 * * * * 2020")
    assert timetable.summary == "0 0 0 * * * * 2020 (never fires)"
    assert timetable.description.startswith("never fires: second 0")
    with pytest.warns(UserWarning, match=r"0 0 0 \* \* \* \* 2020 never fires"):
        timetable.validate()


def test_a_run_by_hand_has_the_moment_as_its_interval() -> None:
    assert EightFieldCronTimetable("0").infer_manual_data_interval(run_after=at("10:00:00.5")).end == at("10:00:00.5")


def test_the_example_of_the_docs_is_a_dag(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    bag = DagBag(tmp_path, bundle_name="docs")
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    kept = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert kept.timetable == dag.timetable
    assert isinstance(kept.timetable, EightFieldCronTimetable)

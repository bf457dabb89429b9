"""Asking for a DAG file until it was parsed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from airflow_transient.jobs.insisting import File, Insistence, revision_in
from airflow_transient.jobs.port import AirflowUnreachable

JOBS, MORE = ("dags-folder", "jobs.py"), ("dags-folder", "more.py")


@dataclass
class Processor:
    """
    Airflow's, look by look: what the files' DAGs say at each, the last for ever; an exception: the look fails.
    """

    looks: list[Mapping[File, int | None] | Exception]
    asked: list[set[File]] = field(default_factory=list)
    forgotten: list[set[str]] = field(default_factory=list)
    busy: int = 0

    def told(self) -> Mapping[File, int | None]:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return look

    def ask(self, files: Collection[File]) -> None:
        self.asked.append(set(files))
        if len(self.asked) <= self.busy:
            raise AirflowUnreachable("the database is locked")

    def forget(self, dag_ids: Collection[str]) -> None:
        self.forgotten.append(set(dag_ids))

    def insistence(self, at_most: float = 5) -> Insistence:
        return Insistence(self.told, self.ask, self.forget, every=0.01, at_most=at_most)


#: case -> looks, how often it is asked for the file.
LOOKS: dict[str, tuple[list[Mapping[File, int | None] | Exception], int]] = {
    "parsed at once": ([{JOBS: 5}], 1),
    "parsed beyond": ([{JOBS: 9}], 1),
    "dropped twice": ([{JOBS: 4}, {JOBS: 4}, {JOBS: 5}], 3),
    "parsed by a copy of the store": ([{JOBS: 3}, {JOBS: 5}], 2),
    "it does not say": ([{JOBS: None}, {JOBS: 5}], 2),
    "the look fails": ([OSError("no database"), {JOBS: 5}], 1),
    "no such file any more": ([{MORE: 1}], 1),
}


@pytest.mark.parametrize(("looks", "times"), LOOKS.values(), ids=LOOKS)
def test_it_asks_until_it_is_told(looks: list[Mapping[File, int | None] | Exception], times: int) -> None:
    processor = Processor(looks)
    insistence = processor.insistence()
    insistence.want([JOBS], 5)
    assert insistence.wait(5)
    assert processor.asked == [{JOBS}] * times


def test_a_busy_database_is_asked_again() -> None:
    processor = Processor([{JOBS: 4}, {JOBS: 4}, {JOBS: 5}], busy=2)
    insistence = processor.insistence()
    insistence.want([JOBS], 5)
    assert insistence.wait(5)
    assert processor.asked == [{JOBS}] * 3


def test_it_asks_for_what_is_missing_only() -> None:
    processor = Processor([{JOBS: 5, MORE: 4}, {JOBS: 5, MORE: 5}])
    insistence = processor.insistence()
    insistence.want([JOBS, MORE], 5)
    assert insistence.wait(5)
    assert processor.asked == [{JOBS, MORE}, {MORE}]


def test_it_gives_up_in_the_end_and_begins_again_when_asked() -> None:
    processor = Processor([{JOBS: 4}])
    insistence = processor.insistence(at_most=0.5)
    insistence.want([JOBS], 5)
    assert not insistence.wait(0.01)
    insistence.wait(5)
    processor.looks = [{JOBS: 6}]
    insistence.want([JOBS], 6)
    assert insistence.wait(5)


def test_what_is_gone_is_forgotten_again_after_the_parse_unless_it_came_back() -> None:
    processor = Processor([{JOBS: 4}, {JOBS: 5}])
    insistence = processor.insistence()
    insistence.gone("job.a")
    insistence.gone("job.b")
    insistence.back(["job.b"])
    insistence.want([JOBS], 5)
    assert insistence.wait(5)
    assert processor.forgotten == [{"job.a"}]


@pytest.mark.parametrize(
    ("description", "revision"),
    [("3 scheduled jobs of revision 12", 12), ("revision 1, then revision 2", 2), ("", None), (None, None)],
)
def test_a_description_names_the_revision(description: str | None, revision: int | None) -> None:
    assert revision_in(description) == revision

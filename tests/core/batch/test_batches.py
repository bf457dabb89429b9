"""Ten messages and 1 MiB a batch; what is written down of them, and read back."""

from __future__ import annotations

import json

import pytest

from airflow_transient.core.batch.batches import MOST_BYTES, Mail, Message, batches
from airflow_transient.core.batch.manifest import Sent, is_part, line, part_name, run_name
from airflow_transient.core.batch.naming import Found, Wish, job_id


def message(name: str, size: int = 10) -> Message:
    wish = Wish(Found(name, name, 7, "1"), job_id(name, "1"), name, f"s3://b/{name}", f"s3://b/out/{name}")
    return Message(wish, "x" * size)


@pytest.mark.parametrize(
    ("sizes", "full"),
    [
        pytest.param([], [], id="none"),
        pytest.param([10] * 10, [10], id="ten"),
        pytest.param([10] * 21, [10, 10, 1], id="more than ten"),
        pytest.param([MOST_BYTES], [1], id="one of 1 MiB"),
        pytest.param([10, MOST_BYTES, 10], [1, 1, 1], id="1 MiB between small ones"),
        pytest.param([MOST_BYTES // 2] * 3, [2, 1], id="exactly 1 MiB in all"),
        pytest.param([MOST_BYTES // 2 + 1] * 2, [1, 1], id="a byte too many"),
    ],
)
def test_a_batch_holds_ten_messages_and_1_mib(sizes: list[int], full: list[int]) -> None:
    made = list(batches(message(str(n), size) for n, size in enumerate(sizes)))
    assert [len(batch) for batch in made] == full
    assert [each.wish.key for batch in made for each in batch] == [str(n) for n in range(len(sizes))]


def test_batches_ask_for_no_more_than_they_need() -> None:
    asked: list[str] = []

    def endless() -> object:
        while True:
            asked.append("one")
            yield message(str(len(asked)))

    next(batches(endless()))  # type: ignore[arg-type]
    assert len(asked) == 11


STANDARD, FIFO = Mail(False, None, "run-1", False), Mail(True, None, "run-1", False)


def test_a_standard_queue_is_told_nothing_more() -> None:
    assert STANDARD.entry(3, message("a")) == {"Id": "3", "MessageBody": "x" * 10}


def test_on_a_fifo_queue_each_file_has_a_group_of_its_own() -> None:
    first, second = FIFO.entry(0, message("a")), FIFO.entry(1, message("b"))
    assert first["MessageGroupId"] != second["MessageGroupId"]
    assert Mail(True, "one", "run-1", False).entry(0, message("a"))["MessageGroupId"] == "one"


@pytest.mark.parametrize(("once", "same"), [(False, False), (True, True)])
def test_fifo_forgets_the_second_of_a_run_and_with_once_of_all_runs(once: bool, same: bool) -> None:
    ids = [Mail(True, None, run, once).entry(0, message("a"))["MessageDeduplicationId"] for run in ("r1", "r1", "r2")]
    assert ids[0] == ids[1]
    assert (ids[0] == ids[2]) is same


def test_what_was_sent_is_read_back() -> None:
    sent = Sent()
    sent.add([line(message("a").wish, "m-1"), line(message("a").wish, "m-2"), line(message("b").wish, "m-3")])
    assert (sent.messages, sent.bytes) == (2, 14)
    assert message("a").wish in sent
    assert message("c").wish not in sent


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", '{"id": "a"}', json.dumps({"id": "zz", "bytes": 1})])
def test_a_damaged_line_is_no_line(damaged: str) -> None:
    sent = Sent()
    sent.add([damaged])
    assert sent.messages == 0


def test_parts_of_two_writers_never_meet() -> None:
    names = {part_name(0, "aa"), part_name(0, "bb"), part_name(1, "aa")}
    assert len(names) == 3
    assert all(is_part(f"in/_manifests/jobs/run/{name}") for name in names)
    assert not is_part("in/_manifests/jobs/run/run.json")


def test_a_run_s_folder_says_whose_it_is() -> None:
    assert run_name("dag", "manual__2026-11-21T06:00:00+00:00", "task", 3, "ab") == (
        "dag.manual__2026-11-21T06-00-00-00-00.task.3.ab"
    )
    assert len(run_name("d" * 250, "r/" * 250, "t" * 250, -1, "ab" * 8)) < 220

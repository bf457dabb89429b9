"""How a trace is read from CSV, and what is said of one that cannot be."""

from __future__ import annotations

import pytest

from airflow_transient.core.trace import MAX_LINES, Trace, read_trace
from airflow_transient.errors import SpecError

#: case -> text, what arrived.
READ: dict[str, tuple[str, tuple[tuple[float, int], ...]]] = {
    "arrivals": ("seconds,arrived\n0,100\n150,20\n", ((0, 100), (150, 20))),
    "as CloudWatch and jq write it": ('"seconds","arrived"\n0,100.0\n60,0.0\n120,3.0\n', ((0, 100), (120, 3))),
    "blanks and empty lines": (" Seconds , Arrived \n\n 0.5 , 7 \n\n", ((0.5, 7),)),
    "two lines for one moment": ("seconds,arrived\n60,1\n60,2\n", ((60, 1), (60, 2))),
    "nothing arrived": ("seconds,arrived\n", ()),
    "visible: rises are arrivals": ("seconds,visible\n0,5\n60,8\n120,2\n180,2\n240,9\n", ((0, 5), (60, 3), (240, 7))),
}


@pytest.mark.parametrize(("text", "arrivals"), READ.values(), ids=READ)
def test_a_trace_is_read(text: str, arrivals: tuple[tuple[float, int], ...]) -> None:
    assert read_trace(text.splitlines()).arrivals == arrivals


#: case -> text, what is said.
REFUSED = {
    "empty": ("", "line 1: expected the header seconds,arrived or seconds,visible, found nothing"),
    "no header": ("0,100\n", "line 1: expected the header seconds,arrived or seconds,visible, found '0,100'"),
    "another header": (
        "seconds,sent\n",
        "line 1: expected the header seconds,arrived or seconds,visible, found 'seconds,sent'",
    ),
    "three values": ("seconds,arrived\n0,1,2\n", "line 2: expected two values, seconds,arrived, found '0,1,2'"),
    "a date": ("seconds,arrived\nMonday,2\n", "line 2: expected seconds, a number from 0 on, found 'Monday'"),
    "before the beginning": ("seconds,arrived\n-1,2\n", "line 2: expected seconds, a number from 0 on, found '-1'"),
    "no moment": ("seconds,arrived\nnan,2\n", "line 2: expected seconds, a number from 0 on, found 'nan'"),
    "out of order": (
        "seconds,arrived\n60,1\n\n0,1\n",
        "line 4: expected lines in order of time, found 0 s after 60 s",
    ),
    "half a message": (
        "seconds,arrived\n0,1.5\n",
        "line 2: expected arrived, a whole number from 0 on, found '1.5'",
    ),
    "no number": ("seconds,visible\n0,\n", "line 2: expected visible, a whole number from 0 on, found ''"),
    "too many messages": (
        "seconds,arrived\n0,9000000\n1,2000000\n",
        "11,000,000 messages in all: expected 10,000,000 at most",
    ),
    "a long line": (
        f"seconds,arrived\n{'x' * 100},1\n",
        f"line 2: expected seconds, a number from 0 on, found '{'x' * 59}…'",
    ),
    "a very long line": (
        f"seconds,arrived\n{'x' * 200_000},1\n",
        "line 2: expected CSV (field larger than field limit (131072))",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_trace_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as raised:
        read_trace(text.splitlines())
    assert str(raised.value) == message


def test_a_trace_has_an_end() -> None:
    lines = ["seconds,arrived", *[f"{second},1" for second in range(MAX_LINES)]]
    assert read_trace(lines[:-1]).messages == MAX_LINES - 1
    with pytest.raises(SpecError, match="line 100001: expected 100,000 lines at most"):
        read_trace(lines)


def test_what_was_read_is_told() -> None:
    assert str(Trace(((0, 1000), (3600, 5)))) == (
        "1,005 messages in 3,600 s; its numbers are messages that arrived at that moment"
    )
    assert "a rise from one line to the next is read as arrivals" in str(Trace((), "visible"))

"""When messages arrived: a trace, and how it is read from CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_transient.errors import SpecError

MAX_LINES = 100_000
MAX_MESSAGES = 10_000_000
#: The second column -> what its numbers are.
COLUMNS = {
    "arrived": "messages that arrived at that moment",
    "visible": "visible messages: a rise from one line to the next is read as arrivals (what came and went is missing)",
}
HEADERS = " or ".join(f"seconds,{column}" for column in COLUMNS)


@dataclass(frozen=True)
class Trace:
    """(seconds, messages) in order of time. `column`: what it was read from."""

    arrivals: tuple[tuple[float, int], ...]
    column: str = "arrived"

    @property
    def messages(self) -> int:
        return sum(count for _, count in self.arrivals)

    @property
    def seconds(self) -> float:
        return self.arrivals[-1][0] if self.arrivals else 0.0

    def __str__(self) -> str:
        return f"{self.messages:,} messages in {self.seconds:,.0f} s; its numbers are {COLUMNS[self.column]}"


def read_trace(text: Iterable[str]) -> Trace:
    """
    From the lines of a CSV file with the columns `seconds,arrived` or `seconds,visible`.

    :raises SpecError: naming the line and what was expected there.
    """
    rows = _rows(text)
    column = _header(next(rows, (1, [])))
    counts = list(_counts(rows, column))
    arrivals = tuple(_rises(counts) if column == "visible" else ((at, n) for at, n in counts if n))
    trace = Trace(arrivals, column)
    if trace.messages > MAX_MESSAGES:
        raise SpecError(f"{trace.messages:,} messages in all: expected {MAX_MESSAGES:,} at most")
    return trace


def _rows(text: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(text, skipinitialspace=True)
    try:
        for row in reader:
            if reader.line_num > MAX_LINES:
                raise SpecError(f"line {MAX_LINES + 1}: expected {MAX_LINES:,} lines at most; cut the trace in parts")
            if row:
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise SpecError(f"line {reader.line_num}: expected CSV ({error})") from None


def _header(first: tuple[int, list[str]]) -> str:
    line, cells = first
    names = [cell.lower() for cell in cells]
    if len(names) != 2 or names[0] != "seconds" or names[1] not in COLUMNS:
        raise SpecError(f"line {line}: expected the header {HEADERS}, found {_quoted(cells)}")
    return names[1]


def _counts(rows: Iterable[tuple[int, list[str]]], column: str) -> Iterator[tuple[float, int]]:
    before = 0.0
    for line, cells in rows:
        if len(cells) != 2:
            raise SpecError(f"line {line}: expected two values, seconds,{column}, found {_quoted(cells)}")
        at, count = _number(cells[0]), _number(cells[1])
        if at is None:
            raise SpecError(f"line {line}: expected seconds, a number from 0 on, found {_quoted(cells[:1])}")
        if at < before:
            raise SpecError(f"line {line}: expected lines in order of time, found {at:g} s after {before:g} s")
        if count is None or count != int(count):
            raise SpecError(f"line {line}: expected {column}, a whole number from 0 on, found {_quoted(cells[1:])}")
        before = at
        yield at, int(count)


def _number(cell: str) -> float | None:
    """CloudWatch writes counts as 20.0. None: no finite number from 0 on."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _rises(counts: Iterable[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    before = 0
    for at, visible in counts:
        if visible > before:
            yield at, visible - before
        before = visible


def _quoted(cells: list[str]) -> str:
    said = ",".join(cells)
    return repr(said if len(said) <= 60 else said[:59] + "…") if cells else "nothing"

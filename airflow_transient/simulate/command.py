"""A replay for each strategy and lag, told as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_transient.core.depth import STRATEGIES, Rule
from airflow_transient.core.simulation import Model, Replay, replay
from airflow_transient.core.trace import MAX_LINES, Trace, read_trace
from airflow_transient.errors import SpecError
from airflow_transient.simulate.plot import blocks, svg

if TYPE_CHECKING:
    import argparse

T = TypeVar("T")

#: A line of a trace is two numbers: what is so much longer is none.
MAX_CHARACTERS = 64 * MAX_LINES
HEAD = ("strategy", "lag", "launched", "wasted", "drained at", "longest wait", "at once", "task-seconds")
TOLD = ("launched", "wasted", "drained_at", "left", "longest_wait", "most", "task_seconds")


@dataclass(frozen=True)
class Comparison:
    """The replays of one trace, by strategy and lag."""

    source: str
    trace: Trace
    replays: Mapping[tuple[str, float], Replay]

    def named(self) -> dict[str, Replay]:
        lags = {lag for _, lag in self.replays}
        return {
            strategy if len(lags) == 1 else f"{strategy}, lag {lag:g} s": told
            for (strategy, lag), told in self.replays.items()
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "trace": {"messages": self.trace.messages, "seconds": self.trace.seconds, "column": self.trace.column},
            "replays": [
                {"strategy": strategy, "lag_seconds": lag, **{name: getattr(told, name) for name in TOLD}}
                for (strategy, lag), told in self.replays.items()
            ],
        }

    def __str__(self) -> str:
        rows = [HEAD, *((strategy, *_cells(lag, told)) for (strategy, lag), told in self.replays.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        ragged = [row[0].ljust(widths[0]) + line[widths[0] :] for row, line in zip(rows, lines, strict=True)]
        return "\n".join([f"{self.source}: {self.trace}", *ragged])


def simulate(args: argparse.Namespace) -> None:
    """`airflow transient simulate`"""
    try:
        told = compare(args)
    except SpecError as error:
        raise SystemExit(str(error)) from None
    print(json.dumps(told.to_dict()) if args.output == "json" else told)
    if args.plot:
        print(f"\n{blocks(told.named())}", file=sys.stderr if args.output == "json" else sys.stdout)
    if args.svg:
        _write(Path(args.svg), svg(told.named(), str(args.trace)))


def compare(args: argparse.Namespace) -> Comparison:
    """
    :raises SpecError: where the trace cannot be read, or an option is out of its bounds.
    """
    trace = _trace(Path(args.trace))
    replays = {
        (strategy, lag): replay(trace, _made(Rule, args, strategy=strategy), _made(Model, args, lag_seconds=lag))
        for strategy in dict.fromkeys(args.strategy or STRATEGIES)
        for lag in dict.fromkeys(args.lag_seconds or [Model.lag_seconds])
    }
    return Comparison(str(args.trace), trace, replays)


def _made(kind: type[T], args: argparse.Namespace, **given: Any) -> T:
    """A value whose fields are the options of the same names."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # T is one of two dataclasses
    return kind(**{name: value for name, value in vars(args).items() if name in names} | given)


def _trace(path: Path) -> Trace:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: expected a text file in UTF-8") from None
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"{path}: expected {MAX_CHARACTERS:,} characters at most; cut the trace in parts")
    try:
        return read_trace(text.splitlines())
    except SpecError as error:
        raise SpecError(f"{path}, {error}") from None


def _write(path: Path, drawing: str) -> None:
    try:
        path.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise SystemExit(f"{path} cannot be written: {error.strerror}") from None


def _cells(lag: float, told: Replay) -> tuple[str, ...]:
    drained = f"{told.drained_at:,.0f} s" if told.drained_at is not None else f"never, {told.left:,} left"
    wait, busy = f"{told.longest_wait:,.0f} s", f"{told.task_seconds:,.0f}"
    return (f"{lag:g} s", f"{told.launched:,}", f"{told.wasted:,}", drained, wait, f"{told.most:,}", busy)

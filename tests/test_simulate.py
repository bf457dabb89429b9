"""`airflow transient simulate`: what it prints, what it refuses, and that docs/depth.md quotes what it gives."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from airflow_transient.core.depth import STRATEGIES, Rule
from airflow_transient.core.simulation import Model
from airflow_transient.simulate import command
from airflow_transient.simulate.options import OPTIONS
from airflow_transient.simulate.plot import BLOCKS

ROOT = Path(__file__).resolve().parents[1]
BURST = str(ROOT / "docs" / "traces" / "burst.csv")
EACH_ITS_OWN = ("--messages-per-task", "1", "--hard-cap", "1000")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for flags, told in OPTIONS.items():
        parser.add_argument(*flags, **told)
    return parser.parse_args(words)


def simulate(*words: str) -> None:
    command.simulate(parsed(*words))


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(BURST, *EACH_ITS_OWN, "--strategy", "lag-aware", "--strategy", "keda-accurate")
    assert capsys.readouterr().out.splitlines() == [
        f"{BURST}: 100 messages in 0 s; its numbers are messages that arrived at that moment",
        "strategy        lag  launched  wasted  drained at  longest wait  at once  task-seconds",
        "lag-aware      60 s       100       0       180 s         120 s      100        12,000",
        "keda-accurate  60 s       200     100       180 s         120 s      200        18,000",
    ]


def test_what_is_left_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(BURST, "--activation", "100", "--strategy", "lag-aware")
    assert "never, 100 left" in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(BURST, *EACH_ITS_OWN, "--lag-seconds", "0", "--lag-seconds", "30", "-o", "json", "--plot")
    said, drawn = capsys.readouterr()
    told = json.loads(said)
    assert told["trace"] == {"messages": 100, "seconds": 0, "column": "arrived"}
    assert [(one["strategy"], one["lag_seconds"]) for one in told["replays"]] == [
        (name, lag) for name in STRATEGIES for lag in (0, 30)
    ]
    counted = {"launched": 100, "wasted": 0, "left": 0, "most": 100}
    seconds = {"lag_seconds": 0, "drained_at": 120, "longest_wait": 60, "task_seconds": 12_000}
    assert told["replays"][0] == {"strategy": "lag-aware"} | counted | seconds
    assert "tasks live" in drawn


def test_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(BURST, *EACH_ITS_OWN, "--strategy", "lag-aware", "--strategy", "keda-accurate", "--plot")
    drawn = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert len(drawn) == 5
    assert drawn[-1].startswith("keda-accurate  tasks live        ")
    assert drawn[-1].endswith("  200 at most")
    assert BLOCKS[-1] in drawn[-1]
    assert BLOCKS[4] in drawn[-2]  # half of the other's


def test_a_drawing(tmp_path: Path) -> None:
    there = tmp_path / "burst.svg"
    simulate(BURST, *EACH_ITS_OWN, "--svg", str(there))
    drawing = ElementTree.fromstring(there.read_text(encoding="utf-8"))  # noqa: S314  # we wrote it a moment ago
    lines = drawing.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * len(STRATEGIES)


def test_nothing_can_be_drawn_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("seconds,arrived\n")
    simulate(str(empty), "--plot", "--svg", str(tmp_path / "empty.svg"))
    assert "0 messages in 0 s" in capsys.readouterr().out


def trace_in(folder: Path, content: bytes) -> str:
    path = folder / "trace.csv"
    path.write_bytes(content)
    return str(path)


REFUSED = {
    "a bad line": (b"seconds,arrived\n0,many\n", (), "trace.csv, line 2: expected arrived, a whole number"),
    "a picture": (b"\x89PNG\xff", (), "trace.csv: expected a text file in UTF-8"),
    "no end": (b"0" * (command.MAX_CHARACTERS + 1), (), "trace.csv: expected 6,400,000 characters at most"),
    "max_count above hard_cap": (b"seconds,arrived\n", ("--max-count", "51"), "max_count is 51"),
    "no time between polls": (b"seconds,arrived\n", ("--poll-seconds", "0"), "poll_seconds is 0.0"),
    "nowhere to draw": (b"seconds,arrived\n", ("--svg", "/nowhere/a.svg"), "/nowhere/a.svg cannot be written"),
}


@pytest.mark.parametrize(("content", "words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_said_in_a_line(tmp_path: Path, content: bytes, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as raised:
        simulate(trace_in(tmp_path, content), *words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SystemExit, match=r"nowhere\.csv cannot be read: No such file or directory"):
        simulate("nowhere.csv")


def test_a_byte_order_mark_is_no_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(trace_in(tmp_path, b"\xef\xbb\xbfseconds,arrived\r\n0,3\r\n"))
    assert "3 messages" in capsys.readouterr().out


def test_an_option_stands_for_each_field_and_keeps_its_default() -> None:
    said = vars(parsed(BURST)) | {"strategy": Rule.strategy, "lag_seconds": Model.lag_seconds}
    not_in_a_trace = {"count_delayed"}
    for kind in (Rule, Model):
        of_kind = {field.name: field.default for field in fields(kind) if field.name not in not_in_a_trace}
        assert {name: said.get(name, "no option") for name in of_kind} == of_kind


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (("--messages-per-task", "2"), Rule, {"messages_per_task": 2}),
        (("--task-count", "3"), Rule, {"task_count": 3}),
        (("--max-count", "4"), Rule, {"max_count": 4}),
        (("--hard-cap", "5"), Rule, {"hard_cap": 5}),
        (("--activation", "6"), Rule, {"activation": 6}),
        (("--claim-seconds", "7"), Rule, {"claim_seconds": 7}),
        (("--top-up", "--count-in-flight"), Rule, {"top_up": True, "count_in_flight": True}),
        (("--start-seconds", "1.5"), Model, {"start_seconds": 1.5}),
        (("--work-seconds", "2"), Model, {"work_seconds": 2.0}),
        (("--poll-seconds", "3"), Model, {"poll_seconds": 3.0}),
        (("--until-empty",), Model, {"until_empty": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_reaches_its_field(words: tuple[str, ...], kind: Any, told: dict[str, Any]) -> None:
    given = {"strategy": "lag-aware"} if kind is Rule else {"lag_seconds": 0.0}
    assert command._made(kind, parsed(BURST, *words), **given) == kind(**given, **told)


def test_the_page_quotes_what_its_commands_give() -> None:
    checked = subprocess.run(
        [sys.executable, "scripts/depth_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.airflow
def test_airflow_knows_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from airflow_transient.cli import get_transient_cli_commands

    parser = argparse.ArgumentParser()
    (one,) = [one for one in get_transient_cli_commands()[0].subcommands if one.name == "simulate"]
    for arg in one.args:
        arg.add_to_parser(parser)
    one.func(parser.parse_args([BURST, "--strategy", "keda-eager", "-o", "json"]))
    assert json.loads(capsys.readouterr().out)["replays"][0]["strategy"] == "keda-eager"

"""`python scripts/depth_tables.py [--check]`: run what docs/depth.md quotes, and write or compare what comes out.

The table stands between two marker lines; an output follows its command in a fenced block.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

from airflow_transient.core.depth import STRATEGIES
from airflow_transient.simulate.command import Comparison, compare
from airflow_transient.simulate.options import OPTIONS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "depth.md"
COMMAND = "airflow transient simulate "
WORLD = "--messages-per-task 1 --hard-cap 1000 --start-seconds 120 --work-seconds 180 --poll-seconds 30"
LAGS = (0, 30, 60)
TRACES = {"burst": "docs/traces/burst.csv", "stream": "docs/traces/stream.csv"}
COUNTED = {"visible": "", "visible + in flight": "--count-in-flight"}


def main() -> None:
    os.chdir(ROOT)  # the commands name their traces from here
    told = PAGE.read_text(encoding="utf-8")
    found = re.sub(rf"(?<=```\n\$ {COMMAND})(.+)\n(?:.*\n)*?(?=```)", _output, told)
    found = re.sub(r"(?<=<!-- strategies -->\n)(?:.*\n)*?(?=<!-- /strategies -->)", lambda _: _table(), found)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(found, encoding="utf-8")
    elif found != told:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} differs from what its commands give now: run {Path(__file__).name}")


def run(words: str) -> Comparison:
    parser = argparse.ArgumentParser()
    for flags, told in OPTIONS.items():
        parser.add_argument(*flags, **told)
    return compare(parser.parse_args(shlex.split(words)))


def _output(command: re.Match[str]) -> str:
    return f"{command[1]}\n{run(command[1])}\n"


def _table() -> str:
    """One row for each strategy and each way of counting."""
    lags = " ".join(f"--lag-seconds {lag}" for lag in LAGS)
    told = {
        (name, counted): run(f"{trace} {WORLD} {lags} {flag}").replays
        for name, trace in TRACES.items()
        for counted, flag in COUNTED.items()
    }
    lines = [
        "| strategy | counted | burst: launched | stream: launched | stream: longest wait, s |",
        "|---|---|---|---|---|",
    ]
    for strategy in STRATEGIES:
        for counted in COUNTED:
            burst, stream = ([told[name, counted][strategy, lag] for lag in LAGS] for name in TRACES)
            launched = [" / ".join(str(one.launched) for one in row) for row in (burst, stream)]
            waits = " / ".join(f"{one.longest_wait:g}" for one in stream)
            lines.append(f"| `{strategy}` | {counted} | {launched[0]} | {launched[1]} | {waits} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

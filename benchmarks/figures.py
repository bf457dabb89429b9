"""How figures are told, and where they are written: between two marker lines of a page, where nothing is by hand."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JOBS_PAGE = ROOT / "docs" / "jobs.md"
PAGE = ROOT / "docs" / "performance.md"


def write(mark: str, block: str, page: Path = JOBS_PAGE) -> None:
    """Put the block between its two marker lines; without them it is only printed."""
    marked = f"<!-- {mark} -->\n{block}\n<!-- /{mark} -->"
    text = page.read_text(encoding="utf-8")
    changed = re.sub(f"<!-- {mark} -->.*<!-- /{mark} -->", lambda _: marked, text, flags=re.DOTALL)
    page.write_text(changed, encoding="utf-8")
    print(marked)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(seconds: Sequence[float], part: float) -> float:
    """The value that this part of them does not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def measured_by(command: str, on: str = "", more: str = f"SQLite {sqlite3.sqlite_version}") -> str:
    """
    The machine, the versions and the day.

    :param on: the day, where the figures are of another one than today.
    :param more: what else they depend on.
    """
    return (
        f"Measured by `{command}` on {on or date.today()}: {os.cpu_count()} shared cores ({processor()}), Linux "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}, Airflow {version('apache-airflow')}, "
        f"{more}."
    )


def processor() -> str:
    """As Linux names it; elsewhere its architecture."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    named = re.search(r"^model name\s*:\s*(.+)$", said, re.MULTILINE)
    return named[1].strip() if named else platform.machine()

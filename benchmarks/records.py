"""What was measured, as JSON in .airflow/bench: the tables are written from it, and what is there need not be again.

Each record says where it is from. Of another machine, or other versions, it counts as not measured: seconds of two
machines are no comparison.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import date
from functools import cache
from importlib.metadata import version
from typing import Any

from benchmarks.figures import ROOT, processor

FOLDER = ROOT / ".airflow" / "bench"
PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "boto3")


def kept(part: str) -> dict[str, Any]:
    """Of one part: its runs on this machine with these versions, by their names; empty where there are none."""
    return {name: record for name, record in _all(part).items() if record.get("from") == origin()}


def keep(part: str, name: str, record: dict[str, Any]) -> None:
    """At once, so that what comes after may fail."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    new = {**_all(part), name: {**record, "on": str(date.today()), "from": origin(), "code": code()}}
    (FOLDER / f"{part}.json").write_text(json.dumps(new, indent=1), encoding="utf-8")


def _all(part: str) -> dict[str, Any]:
    path = FOLDER / f"{part}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


@cache
def origin() -> dict[str, str]:
    """The machine, and the versions of what is measured with."""
    machine = f"{os.cpu_count()} cores, {processor()}"
    versions = {name: version(name) for name in PACKAGES}
    return {"machine": machine, "python": platform.python_version(), **versions}


@cache
def code() -> str:
    """The commit, and whether the package is another now; where there is no git, a hash of the package."""
    commit = _git("rev-parse", "--short", "HEAD") if (ROOT / ".git").exists() else None
    if not commit:
        return f"airflow_transient of hash {_hash()}"
    changed = _git("status", "--porcelain", "--", "airflow_transient", "benchmarks")
    return f"commit {commit}{' with changes' if changed else ''}"


def _git(*words: str) -> str | None:
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # asks, and writes nothing
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _hash() -> str:
    found = hashlib.sha256()
    for path in sorted((ROOT / "airflow_transient").rglob("*.py")):
        found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:12]


def days(records: dict[str, Any]) -> str:
    """When they were measured: a day, or the first and the last."""
    found = sorted({record["on"] for record in records.values()})
    return " to ".join(dict.fromkeys((found[0], found[-1]))) if found else ""


def codes(records: dict[str, Any]) -> str:
    """What code they measured: one state of it, or all that there were."""
    return " and ".join(sorted({record["code"] for record in records.values()}))

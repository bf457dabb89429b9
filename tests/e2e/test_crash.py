"""The crash matrix in its short form: the points that matter most, in a real Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e, pytest.mark.timeout(280)]


def test_killed_anywhere_it_launches_once_and_tells_the_truth(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.matrix", "--short", "--json", rows],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0
    told = json.loads(rows.read_text())
    ours = [row for row in told if row["dag"] != "stock"]
    assert len(ours) >= 12
    assert {row["left"] for row in ours} == {0}
    assert {row["launched"] for row in ours if row["at"] != "cleared"} == {1}
    assert {row["jobs"] for row in ours if row["at"] not in ("cleared", "marked failed", "marked success")} == {1}
    # The yardstick: the same kill makes the provider's own operator launch twice.
    assert [row["launched"] for row in told if row["dag"] == "stock" and row["at"] == "after launch"] == [2]

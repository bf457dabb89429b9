"""The crash matrix in its short form: the points that matter most, in a real Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.points import ACTS, Row

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e, pytest.mark.timeout(500)]


def short_matrix(rows: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.matrix", "--short", "--json", rows],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    return done


def test_killed_anywhere_it_launches_once_and_tells_the_truth(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    done = short_matrix(rows)
    assert done.returncode == 0
    told = [Row(**row) for row in json.loads(rows.read_text())]
    ours = [row for row in told if row.dag in ("deferred", "in_worker")]
    assert len(ours) >= 12
    assert {row.left for row in told} == {0}
    assert {row.launched for row in ours if row.at != "cleared"} == {1}
    assert {row.jobs for row in ours if row.at not in ACTS} == {1}
    bursts = {row.at: (row.launched, row.jobs, row.verdict) for row in told if row.dag == "burst"}
    assert bursts == {
        "when one RunTask was answered and the other not sent": (12, 12, "succeeded"),
        "after writing 'another round'": (13, 12, "succeeded"),
        "answer of RunTask lost": (12, 12, "succeeded"),
        "cleared": (24, 12, "succeeded"),
    }
    # The yardstick: the same kill makes the provider's own operators launch twice.
    assert [row.launched for row in told if row.dag in ("stock", "stock_task")] == [2, 2]

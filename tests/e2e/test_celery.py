"""Airflow as a deployment: a triggerer and a worker are killed while launches wait, and nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.starting import ROOT, SCRIPTS, Started, command_line, with_word_in
from tests.scale_out.counting import Row
from tests.waiting import eventually

sys.path.insert(0, str(SCRIPTS))
MISSING = runpy.run_path(str(SCRIPTS / "_services.py"))["missing"]()

pytestmark = [pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e]
needs_servers = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def home() -> Iterator[Path]:
    """Not pytest's own: Postgres, which is not run by root, has to get there."""
    folder = Path(tempfile.mkdtemp(prefix="airflow-transient-celery-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_without_the_packages_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "up_celery.py"], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"This needs .*redis-server: apt-get install .*redis-server\n", done.stderr)


@needs_servers
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_worker_and_a_triggerer_die_and_every_launch_is_there_once(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.scale_out", "--launches", "12", "--json", rows],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0
    found = json.loads(rows.read_text())
    told = [Row(**row) for row in found["rows"]]
    assert [(row.dag, row.launched, row.tokens, row.jobs) for row in told] == [
        ("machines", 6, 6, 6),
        ("tasks", 6, 6, 6),
    ]
    assert {(row.doubled, row.lost, row.left) for row in told} == {(0, 0, 0)}
    assert found["held"] > 0 or sum(row.tries for row in told) > 12, "the worker's death hit nothing"
    assert found["orphaned"] > 0, "the triggerer's death hit nothing"


@needs_servers
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_nothing_survives_when_it_is_killed_and_it_starts_again(start: Callable[..., Started], home: Path) -> None:
    """In the middle of its start, with Postgres and Redis up."""
    for sign in (signal.SIGKILL, signal.SIGINT):
        up = start(SCRIPTS / "up_celery.py", "--home", home)
        eventually(lambda up=up: any(b"migrate" in command_line(pid) for pid in up.processes()), 60)  # type: ignore[misc]
        assert with_word_in("cmdline", str(home / "up" / "postgres"))
        os.kill(up.process.pid, sign)
        eventually(lambda up=up: not up.processes(), 30)  # type: ignore[misc]
        assert not with_word_in("cmdline", str(home))

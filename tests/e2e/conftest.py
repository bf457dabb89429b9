from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.starting import Started, begin


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start a Python script as a person's shell would; whatever a failing test leaves is killed."""
    begun: list[Started] = []

    def start_one(*argv: object) -> Started:
        begun.append(begin(tmp_path, *argv))
        return begun[-1]

    yield start_one
    for one in begun:
        for pid in one.processes():
            os.kill(pid, signal.SIGKILL)
        one.process.wait(10)

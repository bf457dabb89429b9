from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.world import World


@pytest.fixture
def make_world(cloud: Any, tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**words: Any) -> World:
        made.append(World(cloud, tmp_path / str(len(made)), **words))
        return made[-1]

    yield make
    cloud.faults.clear()
    for each in made:
        each.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()

"""docs/faults.md does what it says: every example is run, and every verb has one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.localcloud.fault_rules import GUESTS, KINDS

pytestmark = pytest.mark.sandbox
PAGE = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
BEGINNING, EXAMPLES = BLOCKS[0][1], BLOCKS[1:]


@pytest.fixture(scope="module")
def words() -> Iterator[dict[str, Any]]:
    words: dict[str, Any] = {}
    try:
        exec(BEGINNING, words)  # noqa: S102  (our own page)
        yield words
    finally:
        if "cloud" in words:
            words["cloud"].stop()


@pytest.mark.parametrize(
    ("language", "example"), EXAMPLES, ids=[code.strip().splitlines()[0][:40] for _, code in EXAMPLES]
)
def test_the_example_is_true(words: dict[str, Any], language: str, example: str) -> None:
    words["cloud"].faults.clear()
    if language == "python":
        exec(example, dict(words))  # noqa: S102  (our own page)
        return
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", **words["cloud"].env}
    ran = subprocess.run(["bash", "-ec", example], env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("fake: RunInstances answers InternalError") == 2


@pytest.mark.parametrize("verb", [*(kind for kind in KINDS), "reclaim", "fail_host", "list", "remove", "clear", "hits"])
def test_every_verb_is_there(verb: str) -> None:
    assert any(f".{verb}(" in code for _, code in EXAMPLES)


def test_every_kind_of_guest_is_in_the_table() -> None:
    assert set(GUESTS) == set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))

"""What a pattern means: a table."""

from __future__ import annotations

import pytest

from airflow_transient.core.batch.pattern import head, leads, matches, parts_of


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("*", "a.txt", True),
        ("*", "a b ü.txt", True),
        ("*", "deep/a.txt", False),
        ("*", ".hidden", False),
        (".*", ".hidden", True),
        ("*.txt", "a.txt", True),
        ("*.txt", "a.txt.part", False),
        ("*.TXT", "a.txt", False),
        ("[ab]?.txt", "b1.txt", True),
        ("*", "a\nb", True),
        ("in/*.txt", "in/a.txt", True),
        ("*/a", "in/a", True),
        ("*/a", ".git/a", False),
        ("**/*.txt", "a.txt", True),
        ("**/*.txt", "x/y/z/a.txt", True),
        ("**/*.txt", "x/.git/a.txt", False),
        ("**", "x/y/a", True),
        ("**", "x/y/.a", False),
        ("x/**", "x/y/a", True),
        ("x/**", "y/a", False),
        ("**/y/**/a", "x/y/z/a", True),
        ("**/**/a", "a", True),
    ],
)
def test_which_names_a_pattern_means(pattern: str, name: str, meant: bool) -> None:
    assert matches(parts_of(pattern), name.split("/")) is meant


@pytest.mark.parametrize(
    ("pattern", "folder", "worth"),
    [
        ("*", "x", False),
        ("*/a", "x", True),
        ("*/a", "x/y", False),
        ("in/*/a", "in/x", True),
        ("in/*/a", "out", False),
        ("**", "x/y/z", True),
        ("**/a", ".git", False),
        ("x/**", "y", False),
    ],
)
def test_folders_in_which_nothing_can_match_are_not_looked_into(pattern: str, folder: str, worth: bool) -> None:
    assert leads(parts_of(pattern), folder.split("/")) is worth


@pytest.mark.parametrize(("pattern", "begins"), [("*", ""), ("in/a*.txt", "in/a"), ("a.txt", "a.txt"), ("a[1]?", "a")])
def test_what_all_names_begin_with(pattern: str, begins: str) -> None:
    assert head(pattern) == begins

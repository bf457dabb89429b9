"""What a task brings along: files and folders from beside its DAG file, and no more than is allowed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_transient.core.images.spec import MAX_FILE_BYTES, File
from airflow_transient.errors import SpecError
from airflow_transient.operators.files import read_files, script_text


@pytest.fixture
def dag(tmp_path: Path) -> Any:
    """A DAG whose file lies in a folder with some others."""
    (tmp_path / "app" / "deep").mkdir(parents=True)
    (tmp_path / "app" / "__pycache__").mkdir()
    (tmp_path / "app" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (tmp_path / "app" / "a b.txt").write_text("a")
    (tmp_path / "app" / "deep" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "app" / "deep" / "run").chmod(0o755)
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "go.sh").write_text("#!/bin/sh\n")
    return SimpleNamespace(fileloc=str(tmp_path / "dag.py"))


def test_a_folder_stands_for_its_files(dag: Any) -> None:
    assert read_files({"/opt/app/": "app", "/opt/go": "go.sh"}, dag) == {
        "/opt/app/a b.txt": File(b"a"),
        "/opt/app/deep/run": File(b"#!/bin/sh\n", executable=True),
        "/opt/go": File(b"#!/bin/sh\n"),
    }


def test_a_file_into_a_folder_keeps_its_name(dag: Any) -> None:
    assert set(read_files({"/opt/bin/": "go.sh"}, dag)) == {"/opt/bin/go.sh"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        pytest.param({"/opt/x": "nowhere"}, "cannot be read: No such file", id="a file that is not there"),
        pytest.param({"/opt/x": "empty"}, "there are no files in 'empty'", id="a folder without files"),
        pytest.param({"/opt/app/a b.txt": "go.sh", "/opt/app": "app"}, "two of them", id="one place twice"),
        pytest.param(["app"], "files is a dict", id="a list"),
        pytest.param({"/opt/x": 1}, "no pair of paths", id="a number"),
        pytest.param({"/opt/zero": "/dev/zero"}, f"more than {MAX_FILE_BYTES:,} bytes", id="a file without end"),
    ],
)
def test_what_cannot_be_brought_says_why(dag: Any, wanted: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_files(wanted, dag)


def test_a_script_is_a_path_only_where_it_looks_like_one(dag: Any) -> None:
    assert script_text("go.sh", False, dag) == "#!/bin/sh\n"
    assert script_text("go.sh", True, dag) == "go.sh"
    assert script_text("#!/bin/sh\n./go.sh", False, dag) == "#!/bin/sh\n./go.sh"

"""What a task brings along from beside its DAG file: a script, and files, read where the task runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_transient.core.images.spec import MAX_FILE_BYTES, MAX_FILES, File
from airflow_transient.errors import SpecError

_SCRIPT_FILES = (".sh", ".py")


def script_text(named: Any, is_text: bool, dag: Any) -> Any:
    """
    A script as text. A path is read here and not through `template_ext`, which would apply to every templated string.

    :param is_text: whether it is no path, whatever it looks like.
    """
    if is_text or not _is_script(named):
        return named
    path = folder_of(dag) / named.strip()
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"script {named!r} cannot be read: {error.strerror} ({path})") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"script {named!r} is not UTF-8 text: {error}") from error


def read_files(wanted: Any, dag: Any) -> dict[str, File]:
    """Place on the machine -> file. A folder stands for all files in it; what is too much is not read to its end."""
    if not wanted:
        return {}
    if not isinstance(wanted, Mapping):
        raise SpecError(f"files is a dict: the path on the machine -> the path here, and not {type(wanted).__name__}")
    found: dict[str, File] = {}
    left = MAX_FILE_BYTES
    for place, path in _each(wanted, folder_of(dag)):
        if place in found:
            raise SpecError(f"files: two of them would be {place}")
        found[place] = file = _read(path, left)
        left -= len(file.content)
        if left < 0 or len(found) > MAX_FILES:
            raise SpecError(
                f"files: more than {MAX_FILE_BYTES:,} bytes or {MAX_FILES} files; keep them in S3 and let the script "
                "fetch them"
            )
    return found


def folder_of(dag: Any) -> Path:
    return Path(dag.fileloc).parent if dag and dag.fileloc else Path.cwd()


def _each(wanted: Mapping[Any, Any], folder: Path) -> Iterator[tuple[str, Path]]:
    for place, named in wanted.items():
        if not isinstance(place, str) or not isinstance(named, str | os.PathLike):
            raise SpecError(f"files: {place!r}: {named!r} is no pair of paths")
        path = folder / named
        if not path.is_dir():
            yield place.rstrip("/") + f"/{path.name}" * place.endswith("/"), path
            continue
        inside = [one for one in sorted(path.rglob("*")) if one.is_file() and "__pycache__" not in one.parts]
        if not inside:  # what should have been built into it is missing, and an image without it is no use
            raise SpecError(f"files: there are no files in {str(named)!r} ({path})")
        for one in inside:
            yield f"{place.rstrip('/')}/{one.relative_to(path).as_posix()}", one


def _read(path: Path, limit: int) -> File:
    try:
        with path.open("rb") as file:
            return File(file.read(limit + 1), os.access(path, os.X_OK))
    except OSError as error:
        raise SpecError(f"files: {path.name!r} cannot be read: {error.strerror} ({path})") from error


def _is_script(named: Any) -> bool:
    return isinstance(named, str) and "\n" not in named.strip() and named.strip().endswith(_SCRIPT_FILES)

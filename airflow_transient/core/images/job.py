"""What a builder runs: the files are put in their places, then the script becomes the job."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping

from airflow_transient.core.images.spec import File

#: coreutils only. The job lies in a folder of ours that can execute, and that is gone before the image is made.
HEAD = """#!/bin/bash
set -eu
place() {
  mkdir -p -- "$(dirname -- "$2")"
  base64 -d >"$2"
  chmod "$1" -- "$2"
}
"""
TAIL = """script=$(dirname -- "$0")/provision
place 700 "$script" <<'END'
{script}
END
exec "$script"
"""


def provisioning(script: str, files: Mapping[str, File]) -> str:
    """The script as it is where there are no files. A file that cannot be placed fails the job."""
    if not files:
        return script
    placed = "".join(
        f"place {'755' if file.executable else '644'} {shlex.quote(place)} <<'END'\n{_lines(file.content)}\nEND\n"
        for place, file in sorted(files.items())
    )
    return HEAD + placed + TAIL.replace("{script}", _lines(script.replace("\r\n", "\n").encode()))


def _lines(content: bytes) -> str:
    return base64.encodebytes(content).decode().strip()

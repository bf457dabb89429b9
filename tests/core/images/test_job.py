"""What a builder runs, run here: files in their places, then the script as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

from airflow_transient.core.images.job import provisioning
from airflow_transient.core.images.spec import File


def run(job: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As the boot script does: written down in a folder of ours, and executed."""
    path = folder / "job"
    path.write_text(job)
    path.chmod(0o700)
    return subprocess.run([path], capture_output=True, text=True, check=False, timeout=20)


def test_without_files_the_script_is_the_job() -> None:
    assert provisioning("#!/bin/bash\ntrue\n", {}) == "#!/bin/bash\ntrue\n"


def test_files_lie_in_their_places_byte_by_byte(tmp_path: Path) -> None:
    every_byte = bytes(range(256)) * 400
    odd = f"{tmp_path}/a place/it's $HOME; `x`"
    files = {odd: File(every_byte), f"{tmp_path}/bin/tool": File(b"#!/bin/sh\necho tool\n", executable=True)}
    ran = run(provisioning(f"#!/bin/bash\n{tmp_path}/bin/tool\nexit 7\n", files), tmp_path)
    assert (ran.returncode, ran.stdout) == (7, "tool\n")
    assert Path(odd).read_bytes() == every_byte
    assert Path(odd).stat().st_mode & 0o111 == 0


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    run(provisioning("#!/bin/sh\n", {f"{tmp_path}/empty": File(b"")}), tmp_path)
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_file_that_cannot_be_placed_fails_the_job(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file and no folder")
    ran = run(provisioning("#!/bin/sh\necho ran\n", {f"{tmp_path}/taken/x": File(b"x")}), tmp_path)
    assert ran.returncode != 0
    assert "ran" not in ran.stdout


def test_the_script_keeps_its_own_interpreter(tmp_path: Path) -> None:
    files = {f"{tmp_path}/x": File(b"x")}
    ran = run(provisioning("#!/usr/bin/env python3\r\nprint(6 * 7)\r\n", files), tmp_path)
    assert ran.stdout == "42\n"

"""When the power goes, as the words on the command line say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_transient.localcloud import agent, rootfs, sandbox_network, task_agent, troubles


@pytest.mark.parametrize(
    ("line", "delay"),
    [
        ("shutdown -h now", 0),
        ("shutdown now", 0),
        ("shutdown -P +0", 0),
        ("shutdown -h +5", 300),
        ("shutdown -h 5", 300),
        ("shutdown -r +1 going down", 60),
        ("shutdown", 60),
        ("shutdown -c", -1),
        ("poweroff", 0),
        ("poweroff -f", 0),
        ("halt -f -p", 0),
        ("reboot -f", 0),
        ("systemctl poweroff", 0),
        ("systemctl --force --force poweroff", 0),
        ("systemctl status", None),
    ],
)
def test_power_words(line: str, delay: float | None) -> None:
    assert agent.delay_of(line.split()) == delay


def test_nobody_but_process_1_signals_everybody() -> None:
    with pytest.raises(RuntimeError, match="process 1"):
        agent._everybody(15)
    with pytest.raises(RuntimeError, match="process 1"):
        task_agent.end_group(1)


GUEST_SIDE = [agent, rootfs, sandbox_network, task_agent, troubles]


@pytest.mark.parametrize("module", GUEST_SIDE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_guest_side_modules_need_no_package(module: object) -> None:
    source = Path(str(module.__file__)).read_text()  # type: ignore[attr-defined]
    assert "airflow_transient" not in source
    compile(source, "guest", "exec", dont_inherit=True)
    line = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import ast; ast.parse(open({module.__file__!r}).read(), feature_version=(3, 7))",
    ]  # type: ignore[attr-defined]
    subprocess.run(line, check=True)

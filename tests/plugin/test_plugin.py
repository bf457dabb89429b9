"""What Airflow is told by the plugin, and what it costs a process that asks for little of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.airflow


def test_a_scheduler_imports_no_fastapi(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "import airflow.plugins_manager as manager\n"
        "before = set(sys.modules)\n"
        "from airflow_transient.plugin import TransientPlugin\n"
        "plugin = TransientPlugin()\n"
        "assert [t.__name__ for t in plugin.timetables] == ['EightFieldCronTimetable']\n"
        "assert len(plugin.external_views) == 2\n"
        "new = set(sys.modules) - before\n"
        "heavy = {'fastapi', 'starlette', 'boto3', 'botocore', 'airflow_transient.plugin.app'}\n"
        "assert not heavy & new, heavy & new\n"
    )
    env = {"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_airflow_loads_it_whole(server: Any, ask: Any) -> None:
    answer = server.get("/api/v2/plugins", headers={"Authorization": f"Bearer {ask.token}"})
    (ours,) = [plugin for plugin in answer.json()["plugins"] if plugin["name"] == "airflow_transient"]
    assert [app["url_prefix"] for app in ours["fastapi_apps"]] == ["/transient"]
    assert ours["timetables"] == ["airflow_transient.timetables.cron.EightFieldCronTimetable"]
    errors = server.get("/api/v2/plugins/importErrors", headers={"Authorization": f"Bearer {ask.token}"})
    told = [error["error"] for error in errors.json()["import_errors"]]
    assert [error for error in told if "already registered" not in error] == []  # a checkout is found twice


def test_the_page_is_in_the_navigation_and_beside_each_task(server: Any, ask: Any) -> None:
    from airflow_transient.plugin import TransientPlugin

    nav, tab = TransientPlugin().external_views
    assert (nav["name"], nav["destination"], nav["href"]) == ("Transient", "nav", "transient/page")
    assert tab["destination"] == "task_instance"
    assert tab["href"].startswith("transient/page?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}")

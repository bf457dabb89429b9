"""The plugin Airflow loads in every process: importing it does nothing.

What it brings is told by properties, so that each process imports only what it asks for: FastAPI takes two seconds,
and no worker, scheduler or parser needs it.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/transient"
NAME = "airflow_transient"


class TransientPlugin(AirflowPlugin):
    """The timetable, the app below `/transient`, and its places in Airflow's pages."""

    name = NAME

    @property
    def timetables(self) -> list[type[Any]]:  # type: ignore[override]
        from airflow_transient.timetables.cron import EightFieldCronTimetable

        return [EightFieldCronTimetable]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from airflow_transient.plugin.app import the_app

        return [{"app": the_app(), "url_prefix": PREFIX, "name": NAME}]

    @property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return [
            {
                "name": "Transient",
                "href": PAGE,
                "url_route": "transient",
                "destination": "nav",
                "nav_top_level": True,
                "icon": f"{PREFIX[1:]}/static/icon.svg",
            },
            {
                "name": "Transient launch",
                "href": f"{PAGE}?{TASK}",
                "url_route": "transient-launch",
                "destination": "task_instance",
            },
        ]


# Relative, because [api] base_url may have a path.
PAGE = f"{PREFIX[1:]}/page"

# Airflow fills these in, percent-encoded; of a task that is not mapped it leaves {MAP_INDEX} as it stands.
TASK = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"

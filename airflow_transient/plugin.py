"""The plugin Airflow loads in every process: importing it does nothing."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class TransientPlugin(AirflowPlugin):
    """Holds the place of the doors that only a plugin can open."""

    name = "airflow_transient"

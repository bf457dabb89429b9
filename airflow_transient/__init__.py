"""Borrow compute from an Airflow DAG: launch once, wait cheaply, say how it ended, leave nothing running."""

__version__ = "0.1.0"

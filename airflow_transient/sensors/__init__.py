"""Sensors: what a DAG waits for before it launches anything."""

"""Schedules for DAGs."""

"""Doors from an Airflow connection to AWS."""

"""Hands: boto3 clients in, core values out. No Airflow."""

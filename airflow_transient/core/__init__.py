"""Rules: what to ask for, what was seen, how it ended. No clock, no network, no Airflow."""

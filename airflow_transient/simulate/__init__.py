"""`airflow transient simulate`: a trace of arrivals against the strategies, before any task is launched."""

"""The places a snapshot of the jobs may be kept: a file, an S3 object, an Airflow Variable."""

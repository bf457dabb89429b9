"""
### Scheduled jobs

Makes a DAG of each document that was written with `/transient/jobs`, the page or `airflow transient jobs`; see
docs/jobs.md. With hundreds of them, several files like this one, each with a part: `build_dags(shard=0, of=4)`.
"""

from __future__ import annotations

from airflow_transient.jobs import build_dags

globals().update(build_dags())

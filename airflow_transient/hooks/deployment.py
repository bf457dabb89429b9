"""The name this Airflow signs its launches with."""

from __future__ import annotations

import uuid

DEPLOYMENT_VARIABLE = "airflow_transient_deployment"


def deployment() -> str | None:
    """`[transient] deployment_id`, else what was drawn at the first launch; None where nothing was launched yet."""
    from airflow.sdk import Variable, conf

    name = conf.get("transient", "deployment_id", fallback="") or Variable.get(DEPLOYMENT_VARIABLE, default=None)
    return str(name) if name else None


def signature() -> str:
    """The same; drawn at random, and kept in a Variable, where there is none."""
    from airflow.sdk import Variable

    if name := deployment():
        return name
    Variable.set(DEPLOYMENT_VARIABLE, f"airflow-{uuid.uuid4().hex[:8]}", "airflow_transient: whose launches are ours")
    return str(Variable.get(DEPLOYMENT_VARIABLE))

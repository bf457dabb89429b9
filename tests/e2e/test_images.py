"""The example, as a person runs it: an image is baked, and a job runs from what the machine had on its disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_home import migrate

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.sandbox, pytest.mark.e2e, pytest.mark.timeout(540)]

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture(scope="module")
def env(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    env = {
        **os.environ,
        **cloud.env,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AIRFLOW_VAR_RESULTS_BUCKET": "results",
        "PYTHONPATH": str(DAGS.parent),
    }
    migrate(env)
    return env


def run(env: Mapping[str, str], date: str) -> str:
    argv = [sys.executable, "-m", "airflow", "dags", "test", "bake_image", date]
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    print(done.stdout[-8000:])
    assert done.returncode == 0
    return done.stdout


def test_the_example_bakes_once_and_runs_from_what_it_baked(cloud: Any, env: Mapping[str, str]) -> None:
    assert "asked for ami-" in run(env, "2026-01-04")
    (image,) = cloud.client("ec2").describe_images(Owners=["self"])["Images"]
    parameter = cloud.client("ssm").get_parameter(Name="/images/digits-of-pi")["Parameter"]["Value"]
    assert parameter == image["ImageId"]
    assert list(cloud.states().values()) == ["terminated", "terminated"]  # the builder, and the job
    assert "no machine is needed" in run(env, "2026-01-11")
    assert list(cloud.states().values()) == ["terminated"] * 3
    jobs = [o["Key"] for o in cloud.client("s3").list_objects_v2(Bucket="results")["Contents"]]
    assert sum(key.endswith("pi.txt") for key in jobs) == 2

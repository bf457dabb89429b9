"""Every run of the tests has an Airflow home of its own, and none of the person's AWS settings."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Begun first, in this order, so that the processes of one run end together: each takes more than half a minute, and
#: pytest-xdist hands out whole files. Beside them the rest is small change.
LONGEST = (
    "e2e/test_page.py",
    "e2e/test_jobs.py",
    "e2e/test_schedule.py",
    "e2e/test_crash.py",
    "e2e/test_celery.py",
    "e2e/test_demo.py",
    "e2e/test_up.py",
    "e2e/test_boot.py",
    "e2e/test_jobs_cli.py",
    "cloud_init/test_real_boot.py",
    "e2e/test_faults.py",
    "e2e/test_airflow.py",
    "e2e/test_reaper.py",
    "e2e/test_jobs_by_hand.py",
    "e2e/test_seed_walk.py",
    "airflow/test_sqs_sensor.py",
)

# A build that was started in the background ignores SIGINT, and so would everything that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

HOME = tempfile.mkdtemp(prefix="airflow-transient-tests-")
KEPT = {"AIRFLOW_TRANSIENT_SCREENSHOTS"}  # a wish of the person's, and no setting of Airflow's
for name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_")) and name not in KEPT]:
    del os.environ[name]
#: What all processes of one run share, those of pytest-xdist and the scripts that tests start.
os.environ.setdefault("TRANSIENT_TESTS_RUN", HOME)
os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {HERE / file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_sessionfinish() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def mask_secret() -> Iterator[Callable[[str], None]]:
    """Airflow's own, till the test is over: what is masked is masked in the whole process."""
    from airflow.sdk._shared.secrets_masker import reset_secrets_masker
    from airflow.sdk.log import mask_secret

    yield mask_secret
    reset_secrets_masker()


@pytest.fixture(scope="module")
def cloud() -> Iterator[object]:
    """A local cloud with a bucket; one at a time in a process, so it ends with the module."""
    from airflow_transient.localcloud import LocalCloud

    with LocalCloud() as running:
        running.client("s3").create_bucket(
            Bucket="results", CreateBucketConfiguration={"LocationConstraint": running.region}
        )
        yield running

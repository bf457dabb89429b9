"""What the distribution is called, needs and brings; the tools are set up in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGE = "airflow_transient"

#: A pattern has to name the depth: static files may lie in folders that are no packages.
DATA = [f"{depth}*.{suffix}" for depth in ("", "**/") for suffix in ("sh", "json", "html", "css", "js", "svg")]

MOTO_PARTS = (
    *("ec2", "s3", "sqs", "ecs", "iam", "ssm", "secretsmanager", "events", "autoscaling", "sts", "logs"),
    *("cloudwatch", "cloudformation", "scheduler", "server"),
)
LOCAL = [f"moto[{','.join(MOTO_PARTS)}]==5.2.*"]
TEST = [
    *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "playwright"),
    *("ruff", "mypy", "pyyaml", "build", "setuptools", "wheel"),
]


def version() -> str:
    """The one in the package, read and not imported: its dependencies may be missing here."""
    text = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{PACKAGE}/__init__.py has no __version__ line")
    return found[1]


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="airflow-transient",
    version=version(),
    description="An Airflow provider that borrows compute for just as long as a job needs it",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Framework :: Apache Airflow",
        "Framework :: Apache Airflow :: Provider",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[f"{PACKAGE}*"]),
    package_data={PACKAGE: ["py.typed", *DATA]},
    install_requires=[
        *("apache-airflow>=3.3,<4", "apache-airflow-providers-amazon"),
        *("apscheduler>=3.11,<4", "boto3", "pendulum"),
    ],
    extras_require={"local": LOCAL, "test": TEST + LOCAL},
    entry_points={
        "apache_airflow_provider": [f"provider_info={PACKAGE}.provider:get_provider_info"],
        "airflow.plugins": [f"{PACKAGE}={PACKAGE}.plugin:TransientPlugin"],
    },
)

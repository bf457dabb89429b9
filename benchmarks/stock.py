"""The stock provider in an environment of its own: its triggers need aiobotocore, which wants an older boto3.

The same Airflow and the same provider as here; the rest by constraints.txt, but for boto3 and what goes with it. Where
pip finds packages is pip's own configuration.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from benchmarks.figures import ROOT
from benchmarks.records import FOLDER

PLACE = FOLDER / "stock"
PYTHON = PLACE / "bin" / "python"
#: What aiobotocore pins otherwise than we do.
FREE = ("boto3", "botocore", "s3transfer", "jmespath", "wrapt", "aiobotocore", "aioitertools")


def python() -> Path:
    """Of that environment, which is made where it is missing or of other versions."""
    wanted = [
        f"apache-airflow=={version('apache-airflow')}",
        f"apache-airflow-providers-amazon[aiobotocore]=={version('apache-airflow-providers-amazon')}",
    ]
    stamp = PLACE / ".ready"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join(wanted):
        _make(wanted)
        stamp.write_text("\n".join(wanted), encoding="utf-8")
    return PYTHON


def _make(wanted: list[str]) -> None:
    print("Making an environment for the stock provider; it takes about two minutes.", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    constraints = FOLDER / "constraints.txt"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    constraints.write_text("".join(line for line in lines if line.partition("==")[0] not in FREE), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(constraints), *wanted], check=True)


def environment(more: Mapping[str, str], home: Path) -> dict[str, str]:
    """Of a measured process: nothing of the person's own AWS and Airflow."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW_"))}
    return {**inherited, **more, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

"""`python -m benchmarks.jobs`: what it costs Airflow that so many documents are DAGs of one file, or of several.

CPU seconds, because other programs run on this machine, each in a process of its own as Airflow does it: the DAG
processor reads a file anew in a process that has loaded Airflow itself. The tables go into docs/jobs.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from airflow_transient.jobs.editing import begun, made
from airflow_transient.jobs.store import Snapshot, open_store, update
from benchmarks import figures

SIZES = (1, 100, 1000)
PARTS = 4
RUNS = 3
SDK = "from airflow.sdk import DAG"
OURS = "from airflow_transient.jobs.dags import build_dags"
READ, KEPT, SHARE, WORKER = (
    "the DAG processor reads the file: documents to DAGs, and those to JSON",
    "it writes them to the database: all new / one changed / none changed",
    f"reads and writes one of {PARTS} files, one changed",
    "a worker makes the one DAG that it runs",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of jobs")
    sizes = parser.parse_args().sizes
    found = {size: measured(size) for size in sizes}
    head = ["CPU seconds", *(f"{size:,} job{'s' if size > 1 else ''}" for size in sizes)]
    rows = [[what, *(times[what] for times in found.values())] for what in (READ, KEPT, SHARE, WORKER)]
    block = f"{figures.table(head, rows)}\n\n{imports()}\n\n{figures.measured_by('python -m benchmarks.jobs')}"
    figures.write("jobs-dags", block)


def measured(size: int) -> dict[str, str]:
    with home(size) as folder:
        reads = [fresh(reading, folder) for _ in range(RUNS)]
        new, one, none = fresh(keeping, folder)
        parts = fresh(part_of, folder)
        works = [fresh(working, folder) for _ in range(RUNS)]
    return {
        READ: told(statistics.median(reads)),
        KEPT: " / ".join(map(told, (new, one, none))),
        SHARE: told(parts),
        WORKER: told(statistics.median(works)),
    }


def told(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"


def imports() -> str:
    """What our modules add to what every DAG file loads."""
    without, all_in_all = (min(cpu_of(code) for _ in range(2 * RUNS)) for code in (SDK, f"{SDK}\n{OURS}"))
    return (
        f"A process that has loaded no more than `{SDK}` ({without:.2f} s of CPU) takes {all_in_all - without:.2f} s "
        "to load our modules. The first line holds what is left of that where Airflow has loaded its own."
    )


def cpu_of(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# --- an Airflow with a database, a store and two DAG files


@contextmanager
def home(size: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dags").mkdir()
        line = "from airflow_transient.jobs import build_dags\n\nglobals().update(build_dags({}))\n"
        (folder / "dags" / "jobs.py").write_text(line.format(""), encoding="utf-8")
        (folder / "dags" / "part.py").write_text(line.format(f"shard=1, of={PARTS}"), encoding="utf-8")
        os.environ |= {
            "AIRFLOW_HOME": name,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            # As if half a minute had gone by between two readings.
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        store = open_store(f"file://{folder}/transient/jobs.json")
        documents = [made(document(number), lambda low, _: low) for number in range(size)]
        now = datetime.now(timezone.utc)
        update(store, lambda snapshot: snapshot.with_jobs(*(begun(one, now, 1) for one in documents)))
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
        fresh(bundles, folder)
        yield folder


def document(number: int) -> dict[str, Any]:
    """Every other one with a queue, all with some variables."""
    job = {"id": f"job-{number}", "taskDefinition": "work", "schedule": f"{number % 60} */5", "maxCount": 10}
    environment = {f"NAME_{one}": f"value {one} of {number}" for one in range(5)}
    queue = {"type": "sqs", "queueName": "invoices", "messagesPerTask": 100}
    return {
        **job,
        "overrides": [{"containerName": "main", "environment": environment}],
        **({"trigger": queue} if number % 2 else {}),
    }


def changed(folder: Path) -> None:
    """The last job of the part that is measured."""
    from airflow_transient.jobs.reading import Shard

    def change(snapshot: Snapshot) -> Snapshot:
        *_, job = (*snapshot.jobs.values(), *Shard(1, PARTS).jobs(snapshot))
        new = made({**job.raw, "taskCount": 1 + job.raw.get("taskCount", 1)}, lambda low, _: low)
        return snapshot.with_jobs(begun(new, job.created_at, snapshot.next_revision))

    update(open_store(f"file://{folder}/transient/jobs.json"), change)


def bundles(_: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()


# --- what is timed, in a process of its own


def fresh(act: Callable[[Path], Any], folder: Path) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(act, folder).result()


def reading(folder: Path) -> float:
    loaded()
    began = time.process_time()
    serialized(bag(folder))
    return time.process_time() - began


def keeping(folder: Path) -> list[float]:
    """All new, then one changed, then none."""
    loaded()
    times = []
    for prepare in (lambda: None, lambda: changed(folder), lambda: None):
        prepare()
        times.append(kept(bag(folder)))
    return times


def part_of(folder: Path) -> float:
    loaded()
    kept(bag(folder, "part.py"))
    changed(folder)
    shutil.rmtree(folder / "dags" / "__pycache__", ignore_errors=True)
    began = time.process_time()
    serialized(found := bag(folder, "part.py"))
    return time.process_time() - began + kept(found)


def working(folder: Path) -> float:
    loaded()
    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "job.job-0"
    began = time.process_time()
    found = bag(folder)
    took = time.process_time() - began
    if list(found.dags) != ["job.job-0"]:
        raise SystemExit(f"not only what was asked for: {list(found.dags)}")
    return took


def loaded() -> None:
    """What the DAG processor and a worker have in memory before they read a file."""
    exec(SDK, {})  # noqa: S102 - the line of a DAG file that every Airflow process has been through
    for name in ("airflow.dag_processing.dagbag", "airflow.serialization.serialized_objects"):
        import_module(name)


def bag(folder: Path, file: str = "jobs.py") -> Any:
    from airflow.dag_processing.dagbag import BundleDagBag

    dags = folder / "dags"
    return BundleDagBag(dag_folder=dags / file, bundle_path=dags, bundle_name="dags-folder", load_op_links=False)


def serialized(found: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in found.dags.values():
        DagSerialization.to_dict(dag)


def kept(found: Any) -> float:
    """CPU seconds of writing it."""
    from airflow.dag_processing.dagbag import sync_bag_to_db

    began = time.process_time()
    sync_bag_to_db(found, "dags-folder", None)
    return time.process_time() - began


if __name__ == "__main__":
    main()

"""What holds for the whole package: which room may import which, what the wheel brings, what is public."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "airflow_transient"
DATA_SUFFIXES = {".sh", ".json", ".html", ".css", ".js", ".svg"}

#: Arrows run one way: room -> the rooms it may import. A room is a folder or module right below the package.
BELOW_HOOKS = {"aws", "core", "errors"}
BELOW_TRIGGERS = {"hooks", *BELOW_HOOKS}
BELOW_OPERATORS = {"triggers", "links", "retry", "notifications", *BELOW_TRIGGERS}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "core": {"errors"},
    "aws": {"core", "errors", "worker"},  # whose messages are read and written in one place
    "hooks": BELOW_HOOKS,
    "links": {"core", "errors"},
    "retry": {"errors"},
    "notifications": {"links", *BELOW_TRIGGERS},
    "triggers": BELOW_TRIGGERS,
    "operators": BELOW_OPERATORS,
    "sensors": BELOW_OPERATORS,
    "timetables": {"core", "errors"},
    "jobs": {"operators", "sensors", "timetables", *BELOW_OPERATORS},
    "plugin": {"jobs", "timetables", "links", "hooks", *BELOW_HOOKS},
    "simulate": {"core", "errors"},
    "cli": {"simulate", "jobs", "hooks", *BELOW_HOOKS},
    "provider": set(),
    "testing": BELOW_HOOKS,
    "guest": set(),
    "worker": set(),
    "localcloud": {"core", "errors"},
    "__init__": set(),
}

#: The clock, chance, the network, the log and processes come to core as arguments and answers.
NOT_IN_CORE = {
    *("asyncio", "concurrent", "ftplib", "http", "logging", "multiprocessing", "random", "secrets"),
    *("select", "selectors", "signal", "smtplib", "socket", "socketserver", "ssl", "subprocess", "threading"),
    *("time", "urllib", "uuid", "warnings"),
}
CLOCKS = {"now", "utcnow", "today"}
PARSE_TIME_ROOMS = {
    *("operators", "sensors", "timetables", "triggers", "links", "hooks", "notifications", "retry", "plugin"),
}

PUBLIC = [
    "airflow_transient.operators.asg.AutoScalingBurstOperator",
    "airflow_transient.operators.batch.EcsQueueWorkersOperator",
    "airflow_transient.operators.batch.EnqueueFilesOperator",
    "airflow_transient.operators.batch.QueueWorkersOperator",
    "airflow_transient.operators.ec2.TransientEc2Operator",
    "airflow_transient.operators.ecs.EcsBurstOperator",
    "airflow_transient.operators.images.BakeImageOperator",
    "airflow_transient.errors.TransientError",
    "airflow_transient.jobs.JobDocument",
    "airflow_transient.jobs.JobStore",
    "airflow_transient.jobs.build_dags",
    "airflow_transient.localcloud.LocalCloud",
    "airflow_transient.notifications.report.TransientReport",
    "airflow_transient.retry.transient_retry_policy",
    "airflow_transient.sensors.sqs.SqsDepthSensor",
    "airflow_transient.testing.FakeEcsLauncher",
    "airflow_transient.testing.FakeLauncher",
    "airflow_transient.timetables.cron.EightFieldCronTimetable",
    "airflow_transient.triggers.sqs.SqsDepthEventTrigger",
    "airflow_transient.worker.Job",
    "airflow_transient.worker.read_message",
    "airflow_transient.worker.write_message",
]

#: error -> its parent, as errors.py draws them.
ERRORS = {
    "SpecError": "TransientError",
    "LaunchError": "TransientError",
    "CapacityError": "LaunchError",
    "AccessError": "LaunchError",
    "RunError": "TransientError",
    "JobFailed": "RunError",
    "BootFailed": "RunError",
    "Interrupted": "RunError",
    "Stopped": "RunError",
    "Overdue": "RunError",
    "Lost": "RunError",
    "Unverified": "Lost",
}


@dataclass(frozen=True)
class Import:
    """One import statement's target, dotted; `runs` when importing the module runs it."""

    module: str
    line: int
    runs: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return self.path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0]

    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    def imports(self) -> Iterator[Import]:
        return self._imports(self.tree(), runs=True)

    def _imports(self, node: ast.AST, runs: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, runs) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                # `from package import room` names a module too, so the names count as well.
                base = self._absolute(child)
                yield from (Import(f"{base}.{alias.name}", child.lineno, runs) for alias in child.names)
            elif is_type_checking(child):
                yield from self._imports(child, runs=False)
            else:
                later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from self._imports(child, runs and not later)

    def _absolute(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.path.relative_to(ROOT).parts
        return ".".join([*parts[: len(parts) - statement.level], *filter(None, [statement.module])])


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


MODULES = [Module(path) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
core_modules = pytest.mark.parametrize(
    "module", [module for module in MODULES if module.room == "core"], ids=lambda module: module.name
)


@every_module
def test_arrows_run_one_way(module: Module) -> None:
    assert module.room in MAY_IMPORT, f"say in MAY_IMPORT where {module.room} stands"
    allowed = MAY_IMPORT[module.room] | {module.room}
    ours = [seen for seen in module.imports() if seen.module.startswith(f"{PACKAGE}.")]
    wrong = [
        f"line {seen.line}: {seen.module}"
        for seen in ours
        if (room := seen.module.split(".")[1]) not in allowed and room in MAY_IMPORT
    ]
    assert not wrong


@core_modules
def test_core_knows_rules_only(module: Module) -> None:
    """Standard library and APScheduler's cron arithmetic; no clock, chance, network, log or process."""
    known = (set(sys.stdlib_module_names) - NOT_IN_CORE) | {"apscheduler", PACKAGE}
    assert not [f"line {seen.line}: {seen.module}" for seen in module.imports() if seen.top not in known]


@core_modules
def test_core_is_told_the_time(module: Module) -> None:
    asked = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(module.tree())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
    ]
    assert not asked


@every_module
def test_only_some_rooms_know_airflow(module: Module) -> None:
    without = {"errors", "core", "aws", "guest", "localcloud", "provider", "worker"}
    assert module.room not in without or "airflow" not in {seen.top for seen in module.imports()}


@every_module
def test_only_hands_know_botocore(module: Module) -> None:
    """hooks turn a connection into clients, by Airflow's own hook; everyone else is handed a launcher."""
    knowing = {"aws", "hooks", "localcloud", "guest", "worker"}  # the last two's is whatever their image holds
    assert module.room in knowing or not {"boto3", "botocore"} & {seen.top for seen in module.imports()}


@every_module
def test_only_hooks_turn_a_connection_id_into_a_client(module: Module) -> None:
    turning = ("airflow.providers.amazon.aws.hooks", "airflow.sdk.BaseHook", "airflow.hooks")
    used = [seen.module for seen in module.imports() if seen.module.startswith(turning)]
    assert module.room == "hooks" or not used


@every_module
def test_what_a_dag_file_imports_brings_no_boto(module: Module) -> None:
    running = {seen.top for seen in module.imports() if seen.runs}
    assert module.room not in PARSE_TIME_ROOMS or not {"boto3", "botocore"} & running


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_an_example_uses_doors_only(path: Path) -> None:
    doors = {"operators", "sensors", "timetables", "triggers", "jobs", "retry", "notifications", "errors", "cli"}
    tops = [seen for seen in Module(path).imports() if seen.top in {PACKAGE, "boto3", "botocore"}]
    assert {seen.module.split(".")[1] if seen.top == PACKAGE else seen.top for seen in tops} <= doors


@pytest.mark.airflow
def test_parsing_a_dag_really_brings_no_boto(tmp_path: Path) -> None:
    """Airflow's own imports are the base line; then ours, one by one, to name the one that brings it."""
    # What lies below the plugin is the API server's alone: the plugin itself is all that other processes import.
    parsed = [module for module in MODULES if not module.name.startswith(f"{PACKAGE}.plugin.")]
    ours = [module.name for module in parsed if module.room in PARSE_TIME_ROOMS]
    script = (
        "import importlib, sys\n"
        "from airflow.sdk import DAG\n"
        "boto = lambda: {'boto3', 'botocore'} & set(sys.modules)\n"
        "assert not boto(), 'airflow.sdk itself brings it now'\n"
        f"for name in {ours!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert not boto(), name\n"
    )
    run_python(script, tmp_path)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a checkout's build/ folder would bring back modules that were deleted."""
    there = tmp_path_factory.mktemp("wheel")
    copy_sources(there / "source")
    build = [*(sys.executable, "-m", "build", "--wheel", "--no-isolation"), "--outdir", str(there / "dist")]
    built = subprocess.run(build, cwd=there / "source", capture_output=True, text=True, check=False, timeout=100)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (there / "dist").glob("*.whl")
    return found


def copy_sources(there: Path) -> None:
    wanted = [path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files = [ROOT / name for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")]
    for path in [*wanted, *filter(Path.exists, files)]:
        target = there / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def test_the_wheel_holds_every_module_and_every_file_they_read(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / PACKAGE).rglob("*")
        if path.suffix in DATA_SUFFIXES | {".py"} or path.name == "py.typed"
    }
    assert wanted - held == set()
    assert not [name for name in held if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]


def test_the_wheel_opens_airflows_doors(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    points = ConfigParser()
    points.read_string(archive.read(name).decode())
    assert dict(points["apache_airflow_provider"]) == {"provider_info": f"{PACKAGE}.provider:get_provider_info"}
    assert dict(points["airflow.plugins"]) == {PACKAGE: f"{PACKAGE}.plugin:TransientPlugin"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    lines = archive.read(name).decode().splitlines()
    version = re.search(r'__version__ = "(.+)"', (ROOT / PACKAGE / "__init__.py").read_text())
    assert version
    assert {"Name: airflow-transient", f"Version: {version[1]}", "License-Expression: Apache-2.0"} <= set(lines)
    (python,) = [line for line in lines if line.startswith("Requires-Python: ")]
    assert {">=3.10", "<3.14"} == set(python.partition(": ")[2].split(","))


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = [*(sys.executable, "-m", "pip", "install"), "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=60)
    script = (
        f"import {PACKAGE}, {PACKAGE}.provider as provider\n"
        f"assert {PACKAGE}.__file__.startswith({str(target)!r}), {PACKAGE}.__file__\n"
        "print(provider.get_provider_info()['package-name'])\n"
    )
    assert run_python(script, tmp_path, PYTHONPATH=str(target)) == "airflow-transient"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_where_the_design_says(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(("child", "parent"), ERRORS.items())
def test_the_error_tree_is_as_drawn(child: str, parent: str) -> None:
    errors = importlib.import_module(f"{PACKAGE}.errors")
    assert getattr(errors, parent) in getattr(errors, child).__bases__


def test_there_is_one_error_tree_and_its_drawing_is_complete() -> None:
    errors = importlib.import_module(f"{PACKAGE}.errors")
    defined = {name for name, thing in vars(errors).items() if isinstance(thing, type)}
    assert defined == {"TransientError", *ERRORS}
    assert all(issubclass(getattr(errors, name), errors.TransientError) for name in defined)
    assert issubclass(errors.SpecError, ValueError)
    assert [name for name in defined if name not in (errors.__doc__ or "")] == []


def constraints() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_constraints_name_versions_and_no_places() -> None:
    exact = re.compile(r"[a-z0-9][a-z0-9._-]*==[^\s;]+( ; .+)?")
    assert [line for line in constraints() if not exact.fullmatch(line)] == []


def test_constraints_keep_moto_where_the_local_cloud_patches_it() -> None:
    assert [line for line in constraints() if re.match(r"moto==5\.2\.\d+$", line)]


def test_constraints_keep_celery_below_5_7() -> None:
    """5.7.0 installs beside providers-celery 3.26 and dies at start with a misleading message."""
    (celery,) = [line for line in constraints() if line.startswith("celery==")]
    assert tuple(map(int, celery.partition("==")[2].split(".")[:2])) < (5, 7)


def run_python(script: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=os.environ | {"AIRFLOW_HOME": str(cwd / "airflow")} | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

"""docker-compose.yaml names things that exist, and what `make up-celery` runs. It is read here, not run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_transient.localcloud import LocalCloud

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))  # the scripts are no package
UP_CELERY = runpy.run_path(str(ROOT / "scripts" / "up_celery.py"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = {name: service for name, service in SERVICES.items() if service.get("command", [""])[0] == "airflow"}
#: The local cloud's own key is no secret; a path is none either.
OPENS_NOTHING = {LocalCloud().env["AWS_SECRET_ACCESS_KEY"], os.devnull}
OWN_DEFAULT_COMMAND = {"postgres", "redis"}

#: What Airflow says of itself: its commands with their options, the options of its configuration sections.
ASK_AIRFLOW = """
import argparse, json
from airflow.cli import cli_parser
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager

ProvidersManager().initialize_providers_configuration()

def commands(parser, path=()):
    subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not subs:
        yield " ".join(path), [option for action in parser._actions for option in action.option_strings]
    for name, sub in (subs[0].choices.items() if subs else ()):
        yield from commands(sub, (*path, name))

sections = {name: sorted(section["options"]) for name, section in conf.configuration_description.items()}
print(json.dumps({"commands": dict(commands(cli_parser.get_parser())), "sections": sections}))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    env["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("airflow"))
    asked = subprocess.run(
        [sys.executable, "-c", ASK_AIRFLOW], env=env, capture_output=True, text=True, check=True, timeout=90
    )
    return dict(json.loads(asked.stdout.splitlines()[-1]))


def settings() -> Iterator[tuple[str, str, str]]:
    """Every variable of every service: service, name, value."""
    for service, description in SERVICES.items():
        for name, value in description.get("environment", {}).items():
            yield service, name, value


def test_a_deployment_has_all_its_parts() -> None:
    assert set(SERVICES) == {
        *("postgres", "redis", "localcloud", "init"),
        *("api-server", "scheduler", "dag-processor", "triggerer-1", "triggerer-2", "worker-1", "worker-2"),
    }
    assert SERVICES["init"]["command"] == ["airflow", "db", "migrate"]


def test_it_is_what_make_up_celery_runs() -> None:
    """The same parts with the same words, but for where the API server listens; and the same settings."""
    commands = {name: service["command"][1:] for name, service in AIRFLOW.items() if name != "init"}
    commands["api-server"] = commands["api-server"][:1]
    assert commands == UP_CELERY["PARTS"]
    assert UP_CELERY["SETTINGS"].items() <= AIRFLOW["worker-1"]["environment"].items()


@pytest.mark.airflow
@pytest.mark.parametrize("name", AIRFLOW)
def test_an_airflow_command_exists_with_its_options(name: str, airflow: dict[str, Any]) -> None:
    words = AIRFLOW[name]["command"][1:]
    command = " ".join(word for word in words if re.fullmatch(r"[a-z][a-z-]*", word))
    assert command in airflow["commands"]
    assert {word for word in words if word.startswith("--")} <= set(airflow["commands"][command])


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(AIRFLOW) - OWN_DEFAULT_COMMAND))
def test_any_other_command_is_a_module_of_ours(name: str) -> None:
    python, dash_m, module, *_ = SERVICES[name]["command"]
    assert (python, dash_m) == ("python", "-m")
    assert importlib.util.find_spec(module)
    assert importlib.util.find_spec(f"{module}.__main__")


@pytest.mark.airflow
def test_every_airflow_setting_is_one_that_airflow_reads(airflow: dict[str, Any]) -> None:
    sections = {name.replace(".", "_").upper(): options for name, options in airflow["sections"].items()}
    unknown = [
        name
        for _, name, _ in settings()
        if name.startswith("AIRFLOW__") and name.split("__")[2].lower() not in sections.get(name.split("__")[1], ())
    ]
    assert not unknown


def test_every_airflow_service_has_the_same_settings() -> None:
    """One fernet key, one JWT secret, one execution API for all of them."""
    assert len({json.dumps(service["environment"], sort_keys=True) for service in AIRFLOW.values()}) == 1


def test_workers_find_the_execution_api_where_the_api_server_listens() -> None:
    words = SERVICES["api-server"]["command"]
    port = words[words.index("--port") + 1]
    url = SERVICES["worker-1"]["environment"]["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert url == f"http://127.0.0.1:{port}/execution/"


def test_who_talks_to_the_local_cloud_shares_its_loopback() -> None:
    words = SERVICES["localcloud"]["command"]
    port = words[words.index("--port") + 1]
    for service in AIRFLOW.values():
        assert service["network_mode"] == "service:localcloud"
        aws = {k: v for k, v in service["environment"].items() if k.startswith("AWS_")}
        assert aws == LocalCloud(port=int(port)).env
        assert "ports" not in service


def test_no_port_is_published_off_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_no_secret_is_written_down() -> None:
    """A secret comes from the environment, and without it compose ends with a sentence."""
    demanded = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")
    for service, name, value in settings():
        if re.search(r"(PASSWORD|SECRET|FERNET_KEY|TOKEN|JWT)", name) and value not in OPENS_NOTHING:
            assert demanded.fullmatch(value), f"{service}: {name}"
        credentials = re.search(r"://[^/@:]*:(.+)@", value)
        assert credentials is None or demanded.fullmatch(credentials[1]), f"{service}: {name}"


def test_what_is_mounted_and_copied_exists() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    for source in mounted:
        assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source
    recipe = SERVICES["worker-1"]["build"]["dockerfile_inline"]
    for line in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []


def test_no_service_is_privileged() -> None:
    assert not [name for name, service in SERVICES.items() if service.get("privileged")]


@pytest.mark.airflow
def test_celery_of_the_constraints_can_be_imported(tmp_path: Path) -> None:
    """Celery 5.7.0 installs beside providers-celery 3.26 and fails here."""
    imported = subprocess.run(
        [
            sys.executable,
            "-c",
            "from airflow.providers.celery.executors.celery_executor import CeleryExecutor\n"
            "from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG",
        ],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert imported.returncode == 0, imported.stderr

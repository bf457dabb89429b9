"""What README and docs/ say of this repository is so: links, files, examples, rooms, parameters, permissions."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A file of this repository, named in passing, as in "(docs/jobs.md)" or `dags/reaper.py`.
NAMED = re.compile(
    r"(?<![\w./-])((?:docs|dags|tests|scripts|benchmarks|airflow_transient)/[\w./-]*\.(?:md|py|yaml|sh))\b"
)

#: Rooms that docs/architecture.md tells in prose, and what is read as data.
IN_PROSE = ("localcloud/", "guest/")


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """As GitHub makes addresses of them."""
    said = re.findall(r"^#+ +(.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in said}


@every_page
def test_a_link_leads_to_what_is_there(page: Path) -> None:
    broken = []
    for link in (link for link in LINK.findall(prose(page)) if "://" not in link):
        path, _, heading = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (heading and heading not in headings(there)):
            broken.append(link)
    assert broken == []


@every_page
def test_a_file_that_is_named_is_there(page: Path) -> None:
    assert [name for name in NAMED.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("folder", ["airflow_transient", "dags", "scripts", "benchmarks"])
def test_a_page_that_code_refers_to_is_there(folder: str) -> None:
    said = (
        (path, name)
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\bdocs/[\w-]+\.(?:md|yaml)\b", path.read_text(encoding="utf-8"))
    )
    assert [f"{path.name}: {name}" for path, name in said if not (ROOT / name).exists()] == []


def test_the_readme_links_each_example() -> None:
    linked = set(LINK.findall(prose(ROOT / "README.md")))
    assert {f"dags/{path.name}" for path in (ROOT / "dags").glob("*.py")} <= linked


def test_the_readme_leads_to_each_page() -> None:
    linked = set(LINK.findall(prose(ROOT / "README.md")))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_some_test_runs_each_example(path: Path) -> None:
    """By its file or its DAG's id: that it runs is for that test to show."""
    ids = re.findall(r'DAG\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
    run_by = [ROOT / "tests", ROOT / "scripts"]  # `make demo` and `make up` are run by tests, too
    texts = [
        each.read_text(encoding="utf-8") for folder in run_by for each in folder.rglob("*.py") if each != Path(__file__)
    ]
    assert any(re.search(rf'"{word}"', text) for word in (path.name, *ids) for text in texts)


def rooms() -> Iterator[str]:
    package = ROOT / "airflow_transient"
    for path in sorted(package.rglob("*.py")):
        room = str(path.relative_to(package))
        if path.name not in ("__init__.py", "__main__.py") and not room.startswith(IN_PROSE):
            yield room


def test_every_room_has_its_line_in_the_architecture() -> None:
    """By its name, by its folder's, or in brackets behind one of its family: `jobs/document.py` (`fields`, `words`)."""
    text = prose(ROOT / "docs" / "architecture.md")
    rows = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    told = {word for row in rows for word in _told(row)}
    assert [room for room in rooms() if not {room, f"{Path(room).parent}/"} & told] == []


def _told(row: str) -> Iterator[str]:
    first = ""
    for name, brackets in re.findall(r"`([^`]+)`(?: \(([^)]*)\))?", row):
        first = name
        yield name
        for word in re.findall(r"`([^`]+)`", brackets):
            stem = first.removesuffix(".py")
            family = (
                stem + word
                if word.startswith("_")
                else f"{first if first.endswith('/') else Path(first).parent}/{word}"
            )
            yield str(Path(f"{family}.py"))


OPERATORS = {
    "operators.asg.AutoScalingBurstOperator",
    "operators.ec2.TransientEc2Operator",
    "operators.ecs.EcsBurstOperator",
    "operators.enqueue.EnqueueFilesOperator",
    "operators.images.BakeImageOperator",
    "operators.launch.LaunchOperator",
    "operators.queue_workers.EcsQueueWorkersOperator",
    "operators.queue_workers.QueueWorkersOperator",
}
every_operator = pytest.mark.parametrize("name", sorted(OPERATORS))


def operator(name: str) -> Any:
    module, _, attribute = f"airflow_transient.{name}".rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """What its constructor takes, its parents' included; Airflow wraps each constructor."""
    found: dict[str, inspect.Parameter] = {}
    for parent in kind.__mro__:
        if parent.__module__.startswith("airflow_transient.") and "__init__" in vars(parent):
            signature = inspect.signature(inspect.unwrap(vars(parent)["__init__"]))
            found = {**signature.parameters, **found}
    return {name: each for name, each in found.items() if name not in ("self", "kwargs")}


@pytest.mark.airflow
@every_operator
def test_a_docstring_tells_the_parameters_that_there_are(name: str) -> None:
    kind = operator(name)
    told = set(re.findall(r"^:param (\w+):", inspect.getdoc(kind) or "", flags=re.MULTILINE))
    own = set(inspect.signature(inspect.unwrap(kind.__init__)).parameters) - {"self", "kwargs"}
    assert told <= set(parameters(kind))
    assert own - told == set() or "__init__" not in vars(kind)


@pytest.mark.airflow
@every_operator
def test_a_number_that_a_docstring_calls_the_default_is_it(name: str) -> None:
    kind = operator(name)
    said = re.findall(r"^:param (\w+):(.*?)(?=^:param|\Z)", inspect.getdoc(kind) or "", flags=re.DOTALL | re.MULTILINE)
    wrong = {}
    for word, text in said:
        number = re.search(r"\bdefaults? (\d+)\b(?! ?(?:h|min|s|d)\b)", " ".join(text.split()), flags=re.IGNORECASE)
        default = parameters(kind)[word].default
        if number and default != int(number[1]):
            wrong[word] = (number[1], default)
    assert wrong == {}


#: Whose calls a page's policies must allow; pages that say "beside those of …" are read with those.
POLICIES = {
    "batch.md": (("aws/enqueue*.py",), ()),
    "worker.md": (("worker.py",), ()),
    "workers.md": (("aws/workers.py", "aws/receipts.py"), ()),
    "groups.md": (("aws/asg*.py",), ()),
    "images.md": (("aws/image*.py",), ("../README.md",)),
    "reaper.md": (("aws/reaper/*.py",), ()),
    "ecs.md": (("aws/ecs.py", "aws/ecs_calls.py", "aws/ecs_reads.py", "aws/awslogs.py", "aws/sqs.py"), ()),
    "../README.md": (("aws/ec2*.py", "aws/resolve.py", "aws/receipts.py", "aws/egress.py"), ()),
}
SERVICES = ("autoscaling", "ec2", "ecs", "logs", "s3", "sqs", "ssm", "cloudwatch")
#: A call -> what it needs, where its name does not say so. AWS's service authorization reference.
NEEDS = {
    **dict.fromkeys(("head_bucket", "list_objects_v2"), "ListBucket"),
    **dict.fromkeys(("copy_object", "upload_fileobj"), "PutObject"),
    "head_object": "GetObject",
    "send_message_batch": "SendMessage",
}


#: What a call is asked of, where its name is no service's -> the service.
ASKED_OF = {"desk": "autoscaling"}


@cache
def calls() -> dict[str, dict[str, str]]:
    """boto3's names of all that may be asked -> service -> the action that it needs: most names are of one service."""
    session = botocore.session.get_session()
    found: dict[str, dict[str, str]] = {}
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            call = botocore.xform_name(name)
            found.setdefault(call, {})[service] = f"{service}:{NEEDS.get(call, name)}"
    return found


def asked_for(text: str) -> set[tuple[str, ...]]:
    """Of each call the action it needs; of one that several services have the actions, unless it is clear of whom."""
    known = calls()
    found = set()
    for of, call in re.findall(r"""(?:(\w*)\.(?:do\(")?|")(\w+)[("]""", text):
        actions, of = known.get(call, {}), of.lstrip("_")
        service = ASKED_OF.get(of, of)
        found.add((actions[service],) if service in actions else tuple(actions.values()))
    return found - {()}


def test_a_call_that_several_services_have_is_told_by_whom_it_asks() -> None:
    assert asked_for('self._desk.do("delete_tags")') == {("autoscaling:DeleteTags",)}
    assert asked_for("self._ec2.delete_tags(Resources=ids)") == {("ec2:DeleteTags",)}
    assert asked_for('self.client("ec2").create_tags(Resources=ids)') == {("ec2:CreateTags",)}
    assert asked_for('getattr(client, "delete_tags")') == {("autoscaling:DeleteTags", "ec2:DeleteTags")}


@pytest.mark.parametrize("page", POLICIES)
def test_a_policy_allows_what_the_code_asks_for(page: str) -> None:
    files, beside = POLICIES[page]
    allowed = {action for each in (page, *beside) for action in _actions((ROOT / "docs" / each).read_text())}
    sources = [path.read_text() for pattern in files for path in (ROOT / "airflow_transient").glob(pattern)]
    asked = {actions for text in sources for actions in asked_for(text)}
    assert asked
    assert {actions for actions in asked if allowed.isdisjoint(actions)} == set()


def _actions(page: str) -> list[str]:
    return re.findall(r"\b[a-z0-9]+:[A-Z]\w+", page)


@every_page
def test_a_policy_is_json(page: Path) -> None:
    for block in re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        if '"Action"' in block:
            json.loads(block)

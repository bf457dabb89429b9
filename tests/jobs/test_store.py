"""Where jobs are kept: what every store promises, what each does when it is damaged, and that no update is lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.jobs.store import (
    JobStore,
    Snapshot,
    StoreConflict,
    StoreDamaged,
    StoredJob,
    StoreError,
    StoreUnreachable,
    last_good,
    open_store,
    update,
)
from airflow_transient.jobs.stores import file as file_module
from airflow_transient.jobs.stores.disk import write_whole
from airflow_transient.jobs.stores.file import FileStore
from airflow_transient.jobs.stores.s3 import S3Store
from airflow_transient.jobs.stores.versions import KEPT

NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)


def stored(id: str, **more: Any) -> StoredJob:
    return StoredJob(id, {"id": id, "schedule": "0 0", **more}, 1, NOW, NOW)


def adding(*ids: str) -> Callable[[Snapshot], Snapshot]:
    return lambda snapshot: snapshot.with_jobs(*map(stored, ids))


def file_store(folder: Path) -> FileStore:
    return FileStore(f"file://{folder}/jobs.json")


# --- snapshots


def test_a_snapshot_is_read_as_it_was_written() -> None:
    snapshot = adding("b", "a")(Snapshot()).stamped(Snapshot(4, write="w4", earlier=("w3",)), NOW)
    again = Snapshot.from_json(snapshot.to_json())
    assert again == snapshot
    assert (again.revision, list(again.jobs), again.earlier) == (5, ["b", "a"], ("w4", "w3"))
    assert again.follows("w3")
    assert not again.follows("w2")


def test_a_changed_job_keeps_its_place_and_a_new_one_comes_last() -> None:
    snapshot = adding("b", "a")(Snapshot())
    assert list(snapshot.with_jobs(stored("b", suspended=True), stored("c")).jobs) == ["b", "a", "c"]
    assert list(snapshot.without("b").jobs) == ["a"]


GOOD = adding("a")(Snapshot()).stamped(Snapshot(), NOW).to_json()
#: case -> what is there, and what is said of it.
NO_SNAPSHOTS: dict[str, tuple[str, str]] = {
    "empty": ("", "Expecting value"),
    "cut short": (GOOD[: len(GOOD) // 2], "Expecting|Unterminated"),
    "no object": ("[]", "no snapshot of jobs"),
    "something else": ('{"name": "package"}', "no snapshot of jobs"),
    "of a later version": (GOOD.replace('"format": 1', '"format": 2'), "its format is 2.*upgrade"),
    "of no version": (GOOD.replace('"format": 1', '"format": "x"'), "its format is 'x'"),
    "a job without a document": (GOOD.replace('"document"', '"documents"'), "no snapshot of jobs"),
    "no moment": (GOOD.replace(NOW.isoformat(), "soon"), "soon"),
    "no UTF-8": ("\udcff", "."),
}


@pytest.mark.parametrize(("text", "words"), NO_SNAPSHOTS.values(), ids=NO_SNAPSHOTS)
def test_what_is_damaged_is_told_and_never_overwritten(text: str, words: str, tmp_path: Path) -> None:
    store = file_store(tmp_path)
    update(store, adding("a"))
    update(store, adding("b"))
    store.path.write_bytes(damaged := text.encode(errors="surrogateescape"))
    for attempt in (store.read, lambda: update(store, adding("c")), lambda: store.replace(Snapshot(3), 2)):
        with pytest.raises(StoreDamaged, match=words) as caught:
            attempt()
        assert f"{store.path}.2: copy that to {store.path}" in str(caught.value)
    assert store.path.read_bytes() == damaged


# --- what every store promises


@pytest.fixture
def airflow_database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(params=["file", "s3", pytest.param("variable", marks=pytest.mark.airflow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], JobStore]:
    """Opens one and the same place, as another process would."""
    name = f"jobs-{tmp_path.name}"
    if request.param == "file":
        return lambda: open_store(f"file://{tmp_path}/jobs.json")
    if request.param == "s3":
        use(request.getfixturevalue("cloud"), monkeypatch)
        return lambda: open_store(f"s3://results/{name}")
    request.getfixturevalue("airflow_database")
    return lambda: open_store(f"variable://{name}")


def use(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")


def test_an_empty_place_holds_no_jobs(opened: Callable[[], JobStore]) -> None:
    assert opened().read() == Snapshot()


def test_what_one_writes_another_reads(opened: Callable[[], JobStore]) -> None:
    written = update(opened(), adding("b", "a"))
    assert opened().read() == written
    assert (written.revision, list(written.jobs)) == (1, ["b", "a"])
    assert update(opened(), adding("ü")).revision == 2
    assert list(opened().read().jobs) == ["b", "a", "ü"]


def test_who_has_read_an_older_revision_does_not_write(opened: Callable[[], JobStore]) -> None:
    store = opened()
    first = update(store, adding("a"))
    update(opened(), adding("b"))
    for expected in (0, 1, 3):
        with pytest.raises(StoreConflict):
            store.replace(adding("c")(first).stamped(first, NOW), expected)
    assert list(opened().read().jobs) == ["a", "b"]


def test_a_change_is_made_again_on_what_another_has_written(opened: Callable[[], JobStore]) -> None:
    store, seen = opened(), []

    def change(snapshot: Snapshot) -> Snapshot:
        seen.append(list(snapshot.jobs))
        if len(seen) == 1:
            update(opened(), adding("other"))
        return snapshot.with_jobs(stored("mine"))

    assert list(update(store, change).jobs) == ["other", "mine"]
    assert seen == [[], ["other"]]


def test_what_changes_nothing_is_not_written(opened: Callable[[], JobStore]) -> None:
    store = opened()
    first = update(store, adding("a"))
    assert update(store, adding("a")) == first
    assert update(store, lambda snapshot: snapshot) == first


def test_what_a_change_raises_leaves_all_as_it_was(opened: Callable[[], JobStore]) -> None:
    store = opened()
    first = update(store, adding("a"))
    with pytest.raises(KeyError):
        update(store, lambda snapshot: snapshot.with_jobs(snapshot.jobs["nobody"]))
    assert store.read() == first


def test_a_thousand_jobs_fit(opened: Callable[[], JobStore]) -> None:
    many = [
        stored(f"job-{n}", overrides=[{"containerName": "main", "environment": {"N": str(n)}}]) for n in range(1000)
    ]
    written = update(opened(), lambda snapshot: snapshot.with_jobs(*many))
    assert opened().read() == written


def test_several_threads_lose_no_update(opened: Callable[[], JobStore]) -> None:
    def work(name: str) -> None:
        store = opened()
        for n in range(5):
            update(store, adding(f"{name}-{n}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    after = opened().read()
    assert sorted(after.jobs) == sorted(f"{name}-{n}" for name in "abcd" for n in range(5))
    assert after.revision == 20


# --- a file


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/new/jobs.json")
    update(store, adding("a"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert modes == dict.fromkeys(("jobs.json", "jobs.json.1", "jobs.json.lock"), 0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_who_was_let_in_stays_in(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    update(store, adding("a"))
    store.path.chmod(0o640)
    update(store, adding("b"))
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_a_group_that_was_let_in_stays_in(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    update(store, adding("a"))
    os.chown(store.path, -1, 100)
    store.path.chmod(0o660)
    update(store, adding("b"))
    for path in tmp_path.iterdir():
        if path.name != "jobs.json.1":
            assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (100, 0o660), path.name


def test_after_an_older_version_was_put_back_no_revision_comes_twice(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for name in "abc":
        update(store, adding(name))
    shutil.copy(f"{store.path}.1", store.path)
    assert list(store.read().jobs) == ["a"]
    after = update(store, adding("d"))
    assert (list(after.jobs), after.revision) == (["a", "d"], 4)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "jobs.json").symlink_to(tmp_path / "real" / "jobs.json")
    update(file_store(tmp_path), adding("a"))
    assert (tmp_path / "jobs.json").is_symlink()
    assert Snapshot.from_json((tmp_path / "real" / "jobs.json").read_text()).revision == 1


def test_so_many_versions_are_kept(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for n in range(KEPT + 3):
        update(store, adding(f"job-{n}"))
    kept = sorted(int(path.suffix[1:]) for path in tmp_path.glob("jobs.json.*") if path.suffix[1:].isdigit())
    assert kept == list(range(4, KEPT + 4))
    assert Snapshot.from_json((tmp_path / "jobs.json.7").read_text()).revision == 7


def test_a_file_that_is_gone_was_not_the_end_of_its_jobs(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    update(store, adding("a"))
    store.path.unlink()
    for attempt in (store.read, lambda: update(store, adding("b"))):
        with pytest.raises(StoreDamaged, match=r"it is gone.*jobs\.json\.1: copy that to"):
            attempt()
    (tmp_path / "jobs.json.1").rename(store.path)
    assert list(store.read().jobs) == ["a"]


def test_a_kept_version_that_is_damaged_too_is_not_offered(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for name in "abc":
        update(store, adding(name))
    store.path.write_text("")
    (tmp_path / "jobs.json.3").write_text("")
    with pytest.raises(StoreDamaged, match=r"jobs\.json\.2: copy that"):
        store.read()
    for path in tmp_path.glob("jobs.json.[12]"):
        path.write_text("")
    with pytest.raises(StoreDamaged, match="no kept version can be read"):
        store.read()


def test_a_folder_that_is_closed_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_store(f"file://{tmp_path}/file/jobs.json")
    assert store.read() == Snapshot()
    with pytest.raises(StoreUnreachable, match="file"):
        update(store, adding("a"))
    with pytest.raises(StoreUnreachable, match="Is a directory"):
        open_store(f"file://{tmp_path.parent}/{tmp_path.name}").read()


def test_a_writer_that_holds_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "LOCK_SECONDS", 0.05)
    store = file_store(tmp_path)
    with store._lock(), pytest.raises(StoreUnreachable, match=r"look who holds .*jobs\.json\.lock"):
        update(file_store(tmp_path), adding("a"))
    update(store, adding("a"))


WRITER = """
import os, sys, time
from airflow_transient.jobs.stores import disk
from airflow_transient.jobs.store import open_store, update
from tests.jobs.test_store import adding

def rename(beside, path):
    print("written", flush=True)
    time.sleep(60)

disk.os.replace = rename
update(open_store(sys.argv[1]), adding("b"))
"""


@pytest.mark.e2e
def test_a_writer_that_is_killed_before_its_rename_changes_nothing(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    before = update(store, adding("a"))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, store.url], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    (left,) = tmp_path.glob(".jobs.json.*.new")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert store.read() == before
    os.utime(left, (0, 0))
    assert list(update(store, adding("c")).jobs) == ["a", "c"]
    assert not left.exists()  # an hour later


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def add_some(url: str, name: str, count: int) -> None:
    for n in range(count):
        update(open_store(url), adding(f"{name}-{n}"))


@pytest.mark.slow
@pytest.mark.e2e
def test_several_processes_lose_no_update(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/jobs.json"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=add_some, args=(url, name, 25)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    after = open_store(url).read()
    assert (after.revision, len(after.jobs)) == (100, 100)


# --- S3


@pytest.fixture
def s3(cloud: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[S3Store]:
    use(cloud, monkeypatch)
    yield S3Store(f"s3://results/{request.node.name}/jobs.json")
    cloud.faults.clear()


def test_an_answer_that_was_lost_is_no_conflict(s3: S3Store, cloud: Any) -> None:
    """botocore sends it again, meets its own write, and is told 412."""
    cloud.faults.lose_answer("PutObject", times=1)
    assert update(s3, adding("a")) == s3.read()
    cloud.faults.lose_answer("PutObject", times=2)
    assert update(s3, adding("b")).revision == 2
    assert list(s3.read().jobs) == ["a", "b"]


def test_another_write_under_way_is_waited_for(s3: S3Store, cloud: Any) -> None:
    cloud.faults.error("PutObject", "ConditionalRequestConflict", status=409, times=2)
    assert update(s3, adding("a")).revision == 1


def test_another_write_that_stays_under_way_is_a_conflict(s3: S3Store, cloud: Any) -> None:
    cloud.faults.error("PutObject", "ConditionalRequestConflict", status=409)
    with pytest.raises(StoreConflict):
        s3.replace(adding("a")(Snapshot()).stamped(Snapshot(), NOW), 0)


def test_a_write_that_others_have_built_on_is_found(s3: S3Store) -> None:
    mine = update(s3, adding("a"))
    for name in "bcd":
        update(s3, adding(name))
    s3.replace(mine, 0)
    assert s3.read().revision == 4


def test_without_an_answer_nobody_says_that_it_was_saved(s3: S3Store, cloud: Any) -> None:
    cloud.faults.error("PutObject", "InternalError", status=500)
    with pytest.raises(StoreUnreachable, match="look whether it was saved"):
        update(s3, adding("a"))


REFUSALS = [("GetObject", "AccessDenied", 403, "s3:ListBucket"), ("GetObject", "SlowDown", 503, "SlowDown")]


@pytest.mark.parametrize(("action", "code", "status", "words"), REFUSALS)
def test_what_s3_refuses_is_told(s3: S3Store, cloud: Any, action: str, code: str, status: int, words: str) -> None:
    cloud.faults.error(action, code, status=status)
    with pytest.raises(StoreUnreachable, match=words):
        s3.read()


def test_no_bucket_is_told(s3: S3Store) -> None:
    with pytest.raises(StoreUnreachable, match="NoSuchBucket"):
        S3Store("s3://nobody-has-this/jobs.json").read()


def test_no_connection_is_told(s3: S3Store, airflow_database: None) -> None:
    with pytest.raises(StoreUnreachable, match="no connection 'nobody'"):
        S3Store("s3://results/jobs.json", "nobody").read()


def test_nobody_answers(s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachable, match="EndpointConnectionError"):
        S3Store("s3://results/jobs.json").read()


def test_a_damaged_object_is_left_and_its_newest_version_named(s3: S3Store, cloud: Any) -> None:
    for name in "ab":
        update(s3, adding(name))
    client = cloud.client("s3")
    client.put_object(Bucket="results", Key=s3._key, Body=b"{}")
    with pytest.raises(StoreDamaged, match=r"jobs\.json\.2: copy that to s3://results/"):
        update(s3, adding("c"))
    client.delete_object(Bucket="results", Key=s3._key)
    with pytest.raises(StoreDamaged, match=r"it is gone.*jobs\.json\.2: copy that"):
        update(s3, adding("c"))


def test_so_many_versions_are_kept_in_s3(s3: S3Store, cloud: Any) -> None:
    for n in range(KEPT + 2):
        update(s3, adding(f"job-{n}"))
    found = cloud.client("s3").list_objects_v2(Bucket="results", Prefix=f"{s3._key}.")["Contents"]
    assert sorted(int(item["Key"].rpartition(".")[2]) for item in found) == list(range(3, KEPT + 3))


@pytest.mark.parametrize("action", ["ListObjectsV2", "DeleteObject"])
def test_a_version_that_cannot_be_kept_costs_no_write(
    s3: S3Store, cloud: Any, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    update(s3, adding("a"))
    cloud.faults.error(action, "AccessDenied", status=403)
    for n in range(KEPT + 1):
        update(s3, adding(f"job-{n}"))
    assert s3.read().revision == KEPT + 2


def test_two_servers_lose_no_update_in_s3(s3: S3Store) -> None:
    def work(name: str) -> None:
        add_some_to(S3Store(s3.url), name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, "ab"))
    after = s3.read()
    assert (after.revision, len(after.jobs)) == (30, 30)


def add_some_to(store: JobStore, name: str, count: int = 15) -> None:
    for n in range(count):
        update(store, adding(f"{name}-{n}"))


# --- a Variable


@pytest.mark.airflow
def test_what_is_no_snapshot_is_left_in_its_variable(airflow_database: None) -> None:
    from airflow.models.variable import Variable

    Variable.set("somebodys", "hello")
    with pytest.raises(StoreDamaged, match="left as it is"):
        update(open_store("variable://somebodys"), adding("a"))
    assert Variable.get("somebodys") == "hello"


@pytest.fixture
def fernet_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from airflow.models.crypto import get_fernet
    from cryptography.fernet import Fernet

    get_fernet.cache_clear()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    yield
    get_fernet.cache_clear()


@pytest.mark.airflow
def test_a_variable_is_encrypted_like_any_other(airflow_database: None, fernet_key: None) -> None:
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    update(open_store("variable://encrypted_jobs"), adding("secretly"))
    with create_session() as session:
        row = session.scalar(select(Variable).where(Variable.key == "encrypted_jobs"))
        assert row is not None
        assert row.is_encrypted
        assert "secretly" not in row._val
        assert "API" in row.description
        row._val = row._val[:-9]
    with pytest.raises(StoreDamaged, match="fernet_key"):
        open_store("variable://encrypted_jobs").read()
    Variable.delete("encrypted_jobs")


@pytest.mark.airflow
def test_a_dag_file_asks_the_api_server_and_never_writes(
    airflow_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable, VariableResult

    store = open_store("variable://parsed_jobs")
    written = update(store, adding("a"))

    class ApiServer:
        """What the parent of a parsing process answers."""

        there = True

        def send(self, asked: Any) -> Any:
            assert asked == GetVariable(key="parsed_jobs")
            if not self.there:
                return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
            return VariableResult(key="parsed_jobs", value=written.to_json())

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", ApiServer(), raising=False)
    assert store.read() == written
    with pytest.raises(StoreUnreachable, match="only the API server and the command line write"):
        update(store, adding("b"))
    ApiServer.there = False
    assert store.read() == Snapshot()


# --- which store


def test_a_dag_file_that_imports_jobs_waits_for_nothing_it_does_not_use() -> None:
    script = (
        "import sys, airflow_transient.jobs as jobs, airflow_transient.jobs.store\n"
        "heavy = {'airflow', 'boto3', 'botocore', 'fastapi', 'pydantic', 'sqlalchemy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert jobs.open_store and jobs.JobDocument\n"
        "assert not (heavy - {'pydantic'}) & set(sys.modules), set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_default_is_a_file_in_airflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert open_store().url == f"file://{tmp_path}/transient/jobs.json"


def test_a_store_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRANSIENT__JOBS_STORE", "s3://bucket/jobs.json")
    monkeypatch.setenv("AIRFLOW__TRANSIENT__JOBS_CONN_ID", "aws_jobs")
    store = open_store()
    assert isinstance(store, S3Store)
    assert (store.url, store._hook.aws_conn_id) == ("s3://bucket/jobs.json", "aws_jobs")


@pytest.mark.parametrize(
    "url",
    [
        *("memory://", "http://host/x", "jobs.json", "/var/jobs.json", "s3:/x/y", "file:jobs.json", "file://"),
        *("file://host/jobs.json", "file:///folder/", "file://relative", "s3://bucket", "s3://bucket/", "s3://B/x"),
        *("variable://", "variable://a b", "variable://a/b", "file:///a?b"),
    ],
)
def test_a_place_of_no_kind_is_refused(url: str) -> None:
    with pytest.raises(StoreUnreachable, match=r"must be file:///folder/jobs.json|: write "):
        open_store(url)


def test_a_file_s_address_may_be_quoted(tmp_path: Path) -> None:
    assert FileStore(f"file://{tmp_path}/my%20jobs.json").path == tmp_path / "my jobs.json"


# --- the last good copy


class Broken:
    url = "broken://x"

    def read(self) -> Snapshot:
        raise StoreUnreachable("broken://x: no answer")


def test_what_was_read_well_is_kept_on_this_host(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    written = update(store, adding("a"))
    assert last_good(store, tmp_path / "cache") == (written, None)
    store.path.write_text("{")
    (copy,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    seen = datetime.now(timezone.utc) - timedelta(hours=2)
    os.utime(copy, (seen.timestamp(), seen.timestamp()))
    snapshot, age = last_good(store, tmp_path / "cache")
    assert snapshot == written
    assert age is not None
    assert timedelta(hours=2) <= age < timedelta(hours=2, minutes=1)


def test_the_age_counts_from_the_last_good_reading(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    update(store, adding("a"))
    last_good(store, tmp_path / "cache")
    (copy,) = (tmp_path / "cache").iterdir()
    os.utime(copy, (0, 0))
    last_good(store, tmp_path / "cache")
    store.path.write_text("{")
    _, age = last_good(store, tmp_path / "cache")
    assert age is not None
    assert age < timedelta(minutes=1)


def test_the_copy_is_of_the_latest_write(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for name in "ab":
        update(store, adding(name))
        last_good(store, tmp_path / "cache")
    store.path.write_text("{")
    assert list(last_good(store, tmp_path / "cache")[0].jobs) == ["a", "b"]


def test_a_place_that_is_suddenly_empty_is_not_the_end_of_its_jobs(tmp_path: Path) -> None:
    """A volume that is not mounted shows an empty folder."""
    store = file_store(tmp_path / "volume")
    update(store, adding("a"))
    last_good(store, tmp_path / "cache")
    (tmp_path / "volume").rename(tmp_path / "elsewhere")
    snapshot, age = last_good(store, tmp_path / "cache")
    assert list(snapshot.jobs) == ["a"]
    assert age is not None


def test_a_snapshot_that_was_brought_back_is_taken(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for name in "ab":
        update(store, adding(name))
    last_good(store, tmp_path / "cache")
    (tmp_path / "jobs.json.1").rename(store.path)
    assert last_good(store, tmp_path / "cache")[1] is None
    assert list(last_good(store, tmp_path / "cache")[0].jobs) == ["a"]


@pytest.mark.parametrize("copied", [None, "", "{}"])
def test_without_a_good_copy_the_store_s_own_words_are_told(copied: str | None, tmp_path: Path) -> None:
    broken: Any = Broken()
    if copied is not None:
        store = file_store(tmp_path)
        update(store, adding("a"))
        last_good(store, tmp_path / "cache")
        next((tmp_path / "cache").iterdir()).write_text(copied)
        store.path.write_text("{")
        broken = store
    with pytest.raises(StoreError, match=r"no answer|jobs\.json"):
        last_good(broken, tmp_path / "cache")


def test_a_host_that_cannot_keep_a_copy_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("")
    store = file_store(tmp_path)
    written = update(store, adding("a"))
    assert last_good(store, tmp_path / "cache") == (written, None)
    assert "no copy of the jobs" in caplog.text


# --- giving up


class Contended:
    """Somebody else is always faster."""

    url = "test://contended"

    def __init__(self) -> None:
        self.tries = 0

    def read(self) -> Snapshot:
        return Snapshot(self.tries)

    def replace(self, new: Snapshot, expected: int) -> None:
        self.tries += 1
        raise StoreConflict("later")


def test_who_always_comes_second_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_transient.jobs.store.LONGEST_PAUSE", 0.0)
    store = Contended()
    with pytest.raises(StoreConflict, match="30 times in a row"):
        update(store, adding("a"))
    assert store.tries == 30


def test_a_write_whose_answer_was_lost_is_not_made_twice(tmp_path: Path) -> None:
    inner = file_store(tmp_path)

    class Lossy:
        url = inner.url
        read = staticmethod(inner.read)

        def replace(self, new: Snapshot, expected: int) -> None:
            inner.replace(new, expected)
            update(inner, adding("other"))
            raise StoreConflict("the connection broke off")

    assert list(update(Lossy(), adding("mine")).jobs) == ["mine"]
    assert list(inner.read().jobs) == ["mine", "other"]
    assert replace(inner.read(), jobs={}).revision == 2


def test_a_reader_sees_whole_snapshots_only(tmp_path: Path) -> None:
    store, done, seen = file_store(tmp_path), threading.Event(), set()
    update(store, adding("first"))

    def look() -> None:
        while not done.is_set():
            snapshot = store.read()
            seen.add(snapshot.revision)
            assert len(snapshot.jobs) == snapshot.revision

    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        add_some_to(store, "more", 30)
        done.set()
        for each in looks:
            each.result()
    assert seen

"""Nothing is left behind, whoever is killed; nobody special is needed; commands can be missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

import airflow_transient
from airflow_transient.localcloud import LocalCloud
from tests.waiting import eventually

from .conftest import IMAGE, launcher

pytestmark = pytest.mark.sandbox
PACKAGE = Path(airflow_transient.__file__).parent
ROOT = os.geteuid() == 0


def children(pid: int) -> set[int]:
    """Of pid, and theirs."""
    found: set[int] = set()
    for task in Path("/proc", str(pid), "task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | children(int(child))
    return found


@pytest.fixture(scope="module", autouse=True)
def before() -> set[int]:
    """What modules before this one have left in this process of the tests."""
    return children(os.getpid())


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m airflow_transient.localcloud` as a person starts it, and what it printed."""
    line = [sys.executable, "-m", "airflow_transient.localcloud", "--port", "0", "--bucket", "mine"]
    process = subprocess.Popen(
        [*line, "--sandbox", request.param], stdout=subprocess.PIPE, text=True, cwd=PACKAGE.parent
    )
    assert process.stdout is not None
    said = ""
    for text in process.stdout:
        said += text
        if "Ctrl-C" in text:
            break
    else:
        pytest.skip(f"{request.param} does not work on this machine")
    yield process, said
    process.kill()
    process.wait()
    process.stdout.close()


def machine_on(said: str) -> None:
    """Boot a machine on the cloud that said this, by its own export lines."""
    env = dict(re.findall(r"export (\w+)=(.*)", said))
    keys = {
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
    }
    ec2 = boto3.client("ec2", env["AWS_REGION"], endpoint_url=env["AWS_ENDPOINT_URL"], **keys)
    script = "#!/bin/sh\nsetsid sleep 1000 &\nsleep 1000\n"
    ec2.run_instances(ImageId=IMAGE, InstanceType="t3.micro", MinCount=2, MaxCount=2, UserData=script)


@pytest.mark.parametrize(
    ("program", "number"),
    [("bubblewrap", signal.SIGKILL), ("unshare", signal.SIGKILL), ("bubblewrap", signal.SIGTERM)],
    indirect=["program"],
    ids=["bubblewrap, killed", "unshare, killed", "terminated"],
)
def test_no_sandbox_outlives_the_program(program: tuple[subprocess.Popen[str], str], number: signal.Signals) -> None:
    process, said = program
    assert "nothing here is AWS" in said
    assert "Buckets: mine" in said
    machine_on(said)
    # Per machine: the sandbox program (or two), process 1, the script and its two sleeps.
    eventually(lambda: len(children(process.pid)) >= 10)
    left = children(process.pid)
    process.send_signal(number)
    eventually(lambda: not any(alive(pid) for pid in left), within=5)
    assert process.wait(timeout=10) == (-9 if number is signal.SIGKILL else 0)
    if number is not signal.SIGKILL:
        assert not list(Path(tempfile.gettempdir()).glob(f"localcloud-{process.pid}-*"))


def test_what_a_killed_program_left_is_cleared_by_the_next() -> None:
    left = Path(tempfile.mkdtemp(prefix="localcloud-999999999-"))
    with LocalCloud():
        assert not left.exists()


def test_ten_machines_do_a_job_in_five_seconds() -> None:
    job = textwrap.dedent("""\
        #!/bin/bash
        T=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
        I=$(curl -fsS -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/instance-id)
        echo $I | curl -fsS {form} -F key=out/$I -F file=@- {url} && shutdown -h now
    """)
    with LocalCloud() as cloud:
        s3, launch = cloud.client("s3"), launcher(cloud)
        s3.create_bucket(Bucket="reports", CreateBucketConfiguration={"LocationConstraint": cloud.region})
        post = s3.generate_presigned_post("reports", "out/${filename}")
        form = " ".join(f"-F '{name}={value}'" for name, value in post["fields"].items() if name != "key")
        script = job.format(form=form, url=post["url"])
        launch.ec2.run_instances(**launch.request(script, MinCount=10, MaxCount=10))
        eventually(lambda: set(cloud.states().values()) == {"terminated"}, within=5)
        assert s3.list_objects_v2(Bucket="reports")["KeyCount"] == 10


def test_a_hidden_command_is_not_found_and_shutdown_is_there_all_the_same() -> None:
    with LocalCloud(hide=("curl", "shutdown", "systemctl")) as cloud:
        launch = launcher(cloud)
        text = launch.run("command -v curl || echo no curl; curl; echo code $?; type shutdown; python3 -c 'print(6*7)'")
        assert "no curl" in text
        assert "code 127" in text
        assert "shutdown is /usr/sbin/shutdown" in text
        assert "\n42\n" in text


def test_a_guest_can_be_without_python_and_see_a_shared_folder(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text("ANSWER = 42")
    with LocalCloud(hide=("python3",), share=[tmp_path]) as cloud:
        text = launcher(cloud).run(
            f"command -v python3 || echo no python; cat {tmp_path}/library.py; touch {tmp_path}/x || echo refused"
        )
        for expected in ("no python", "ANSWER = 42", "refused"):
            assert expected in text


def test_the_callers_home_is_hidden_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(tempfile.mkdtemp(dir="/opt" if ROOT else None))
    try:
        (home / "secret").write_text("mine")
        monkeypatch.setenv("HOME", str(home))
        with LocalCloud() as cloud:
            assert "secret" not in launcher(cloud).run(f"ls {home}")
    finally:
        shutil.rmtree(home)


def test_the_users_own_python_serves_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_transient.localcloud import toolbox

    def absent() -> tuple[list[object], str]:
        return [toolbox.read_only(sys.base_prefix)], os.path.realpath(sys.executable)

    monkeypatch.setattr(toolbox, "_python", absent)
    with LocalCloud() as cloud:
        assert f"by {sys.base_prefix}" in launcher(cloud).run("python3 -c 'import sys; print(\"by\", sys.base_prefix)'")


JOB_AS_NOBODY = """
from airflow_transient.localcloud import LocalCloud
import sys, time
for kind in sys.argv[1:]:
    with LocalCloud(sandbox=kind) as cloud:
        ec2 = cloud.client("ec2")
        script = "#!/bin/sh\\necho uid $(id -u)\\ncat /proc/1/environ | wc -c\\nshutdown -h now\\n"
        wanted = dict(ImageId="ami-03cf127a", InstanceType="t3.micro", MinCount=1, MaxCount=1, UserData=script)
        wanted["InstanceInitiatedShutdownBehavior"] = "terminate"
        name = ec2.run_instances(**wanted)["Instances"][0]["InstanceId"]
        while cloud.states()[name] != "terminated":
            time.sleep(0.02)
        print(kind, cloud.console(name).decode())
"""


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else; an ordinary user runs all other tests so")
def test_an_ordinary_user_can_run_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    site = next(path for path in sys.path if path.endswith("site-packages"))
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    python = next((path for path in (sys.executable, "/usr/bin/python3") if _runs(as_nobody, path, site)), None)
    if python is None:
        pytest.skip("no Python here that nobody may run and that can import moto")
    folder = Path(tempfile.mkdtemp(dir="/opt"))
    try:
        folder.chmod(0o755)
        shutil.copytree(PACKAGE, folder / "airflow_transient")
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{folder}:{site}",
            "HOME": "/nonexistent",
            "TMPDIR": "/tmp",
        }
        line = [*as_nobody, python, "-B", "-c", JOB_AS_NOBODY, "bubblewrap", "unshare"]
        ran = subprocess.run(line, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("uid 0") == 2
    finally:
        shutil.rmtree(folder)


def _runs(prefix: list[str], python: str, site: str) -> bool:
    env = {"PYTHONPATH": site, "HOME": "/nonexistent"}
    line = [*prefix, python, "-B", "-c", "import moto, werkzeug"]
    try:
        return subprocess.run(line, env=env, cwd="/", capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_nothing_of_this_module_is_left_running(before: set[int]) -> None:
    assert not [pid for pid in children(os.getpid()) - before if alive(pid)]

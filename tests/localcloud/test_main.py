"""The command: what it makes at start, what it tells a shell, and how it says no."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from airflow_transient.localcloud import LocalCloud, LocalCloudError
from airflow_transient.localcloud.__main__ import UNSET, main

pytestmark = pytest.mark.sandbox
COMMAND = [sys.executable, "-m", "airflow_transient.localcloud"]


@contextmanager
def started(*arguments: str) -> Iterator[str]:
    """Its banner, while it runs; then it ends by Ctrl-C."""
    with subprocess.Popen([*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            while line := process.stdout.readline():
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            yield "".join(lines)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0


Refused = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Refused]:
    """Its exit code and what it said, from within; the signals are given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str) -> tuple[int, list[str]]:
        try:
            code = main(["--port", "0", *arguments])
        except SystemExit as usage:
            code = int(usage.code or 0)
        return code, capsys.readouterr().err.splitlines()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_is_printed_points_a_shell_at_the_cloud() -> None:
    script = """
import boto3
attributes = boto3.client("sqs").get_queue_attributes
url = boto3.client("sqs").get_queue_url(QueueName="orders")["QueueUrl"]
boto3.client("sqs").send_message(QueueUrl=url, MessageBody="a")
print(attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"])
print(boto3.client("s3").list_buckets()["Buckets"][0]["Name"])
"""
    with started("--bucket", "reports", "--queue", "orders", "--queue", "more.fifo", "--sqs-lag", "60") as banner:
        assert "/123456789012/orders, " in banner
        lines = [line.strip() for line in banner.splitlines() if line.startswith("  ")]
        shell = "\n".join([*lines, f"exec {sys.executable} - <<'END'", script, "END"])
        ran = subprocess.run(
            ["bash", "-ec", shell],
            env={**os.environ, **dict.fromkeys(UNSET, "none-such")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.stdout.split() == ["0", "reports"], ran.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        pytest.param(["--bucket", "b"], "Cannot make the bucket 'b': a name has 3 to 63 of a-z", id="short bucket"),
        pytest.param(["--bucket", "Re_ports"], "Cannot make the bucket 'Re_ports': a name has", id="bucket"),
        pytest.param(["--queue", "a b"], "Cannot make the queue 'a b': Can only include", id="queue"),
    ],
)
def test_a_bad_name_is_one_sentence(refused: Refused, arguments: list[str], why: str) -> None:
    code, said = refused(*arguments)
    assert (code, len(said)) == (2, 1)
    assert said[0].startswith(why)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        pytest.param(["--sqs-lag", "-1"], "'-1' is not 0 to 900 seconds", id="lag"),
        pytest.param(["--port", "70000"], "'70000' is no port", id="port"),
    ],
)
def test_a_bad_number_is_a_matter_of_usage(refused: Refused, arguments: list[str], why: str) -> None:
    code, said = refused(*arguments)
    assert code == 2
    assert why in said[-1]


def test_a_port_in_use_names_the_option(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused("--port", str(port))
        assert (code, len(said)) == (1, 1)
        assert f"port {port} of 127.0.0.1 (Address already in use)" in said[0]
        assert "--port" in said[0]
        with pytest.raises(LocalCloudError, match="another port"):
            LocalCloud(port=port).start()
    with LocalCloud():
        pass

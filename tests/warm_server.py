"""The server of tests/warm_airflow.py: an Airflow that has been imported, and forks for each command.

`python -m tests.warm_server <socket>`. It has no thread and no connection to the database: what is forked would share
them.
"""

from __future__ import annotations

import array
import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

BACKLOG, LONGEST = 16, 1_000_000


def serve(address: str) -> None:
    """Until it is ended; what returns from here is a command's process, which has ended."""
    warm_up()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as place:
        place.bind(f"{address}.new")
        place.listen(BACKLOG)
        os.rename(f"{address}.new", address)
        signal.signal(signal.SIGCHLD, take_leave)
        while True:
            line, _ = place.accept()
            if os.fork() == 0:
                place.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return attend(line)
            line.close()


def warm_up() -> None:
    """What Airflow's parts and commands import, and the application that `dags test` and `tasks test` build."""
    import airflow.__main__
    import airflow.api_fastapi.core_api.routes.public
    import airflow.api_fastapi.core_api.routes.ui  # noqa: F401
    import boto3  # noqa: F401
    from airflow.cli import cli_parser
    from airflow.cli.commands import dag_command, task_command  # noqa: F401
    from airflow.sdk.execution_time import task_runner  # noqa: F401
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    import airflow_transient.cli
    import airflow_transient.operators.ec2
    import airflow_transient.operators.ecs  # noqa: F401

    cli_parser.get_parser()
    asyncio.run(first_request(in_process_api_server().app))
    gc.freeze()  # what is forked does not copy pages only to count what is in them


async def first_request(app: Any) -> None:
    """The versions of the Execution API are built when somebody asks for something."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://nobody") as client:
        assert (await client.get("/nothing")).status_code == 404


def take_leave(*_: object) -> None:
    """Of the attendants that have ended. Were the signal ignored, the processor time of all commands would be lost."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def attend(line: socket.socket) -> None:
    """Begin what is asked for, which tells its process id, and then tell how it ended."""
    asked, given, _, _ = line.recvmsg(LONGEST, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i")
    files.frombytes(given[0][2])
    if (pid := os.fork()) == 0:
        os.setsid()
        line.send(str(os.getpid()).encode())
        line.close()
        return become(**json.loads(asked), files=list(files))
    _, status = os.waitpid(pid, 0)
    line.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(argv: list[str], env: Mapping[str, str], files: list[int]) -> None:
    """`airflow <argv>`, as a shell starts it."""
    from airflow.__main__ import main

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["airflow", *argv]
    main()


if __name__ == "__main__":
    serve(sys.argv[1])

"""The endpoint: moto's application behind our door, on a TCP port for the host, a socket file for guests."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from airflow_transient.localcloud import calls, moto_launch, moto_reads
from airflow_transient.localcloud.errors import LocalCloudError
from airflow_transient.localcloud.fault_door import FaultDoor
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.s3_gate import Environ, S3Gate, Wsgi


class _Quiet(MotoRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """One line per request is nobody's log; errors reach the caller."""

    def connection_dropped(self, error: BaseException, environ: Environ | None = None) -> None:
        """And what is dropped has no next request: see fault_door.hang_up."""
        self.close_connection = True


class Listener:
    def __init__(self, host: str, port: int, door: Path) -> None:
        self._app: Wsgi = _not_yet
        self._servers = [
            _tcp_server(host, port, self._call),
            make_server(f"unix://{door}", 0, self._call_of_guest, threaded=True, request_handler=_Quiet),
        ]
        self._threads: list[threading.Thread] = []
        self.port: int = self._servers[0].server_address[1]

    def serve(self, ec2_lock: threading.RLock, faults: Faults) -> None:
        moto: Wsgi = DomainDispatcherApplication(create_backend_app)
        _warm_up()
        gate = S3Gate(_one_at_a_time(moto, ec2_lock), moto_reads.keyring, moto_reads.bucket_region)
        self._app = FaultDoor(gate, faults, moto_launch.pool_of_form)
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        if self._threads:
            for server in self._servers:
                server.shutdown()
        for server in self._servers:
            server.server_close()

    def _call(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def _call_of_guest(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._app({**environ, calls.GUEST: True}, start_response)


def _tcp_server(host: str, port: int, app: Wsgi) -> BaseWSGIServer:
    """Bound by ourselves: on a port in use werkzeug would end the process."""
    try:
        bound = socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise LocalCloudError(
            f"Cannot listen on port {port} of {host} ({os.strerror(error.errno or 0)}): stop what listens there, "
            "or take another port with --port (0 picks a free one)."
        ) from None
    with bound:
        return make_server(host, port, app, threaded=True, request_handler=_Quiet, fd=bound.fileno())


def _not_yet(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("503 Slow Down", [])
    return [b""]


def _one_at_a_time(inner: Wsgi, lock: threading.RLock) -> Wsgi:
    """
    EC2 requests and guests change the same objects: never two at once.

    Nor a conditional write to S3: moto looks at the ETag and then writes, and another one comes in between.
    """

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not _changes_machines(environ) and not _is_conditional_write(environ):
            return inner(environ, start_response)
        with lock:
            return list(inner(environ, start_response))

    return app


def _changes_machines(environ: Environ) -> bool:
    """EC2, or Auto Scaling, which changes the same ones."""
    signed = environ.get("HTTP_AUTHORIZATION", "")
    return "/ec2/aws4_request" in signed or "/autoscaling/aws4_request" in signed


def _is_conditional_write(environ: Environ) -> bool:
    return environ["REQUEST_METHOD"] == "PUT" and bool({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & set(environ))


def _warm_up() -> None:
    """Before the first guest waits for it: the first EC2 call would cost 1.3 s."""
    import moto.s3.models  # noqa: F401  (to have it loaded)

    moto_reads.ec2("eu-west-1")


def forget_everything() -> None:
    """moto's state is the process's: a new cloud begins empty and leaves nothing to the next user of moto."""
    from moto.core.base_backend import BackendDict
    from moto.core.model_instances import reset_model_data

    BackendDict.reset()
    reset_model_data()

"""The outermost door of the endpoint: the faults' own address, and what faults make of every other request."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from airflow_transient.localcloud import calls, fault_answers, fault_rules
from airflow_transient.localcloud.errors import FaultError, Refused
from airflow_transient.localcloud.faults import PATH, Faults
from airflow_transient.localcloud.s3_gate import Environ, Wsgi

LIMIT = 64 * 1024
Respond = Callable[..., Any]


@dataclass(frozen=True)
class FaultDoor:
    """pool: see calls.Pool."""

    inner: Wsgi
    faults: Faults
    pool: calls.Pool

    def __call__(self, environ: Environ, start_response: Respond) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        # moto's own controls too: /moto-api/reset would forget the machine that asks.
        if path.startswith("/_localcloud") or (path.startswith("/moto-api") and environ.get(calls.GUEST)):
            return control(environ, start_response, self.faults)
        if not self.faults.list():
            return self.inner(environ, start_response)
        call = calls.read(environ, self.pool)
        outcome = self.faults.meet(call)
        time.sleep(outcome.delay)
        if outcome.refused_by is not None:
            return self._refuse(environ, start_response, fault_answers.refusal(outcome.refused_by, call), call.protocol)
        if outcome.lost_by is not None:
            _consume(self.inner(environ, lambda *_, **__: None))
            hang_up(environ)
        return self.inner(environ, start_response)

    def _refuse(self, environ: Environ, start: Respond, refused: Refused, protocol: str) -> Iterable[bytes]:
        _drain(environ)
        answer = fault_answers.answer(refused, protocol, environ["REQUEST_METHOD"])
        start(answer.status, answer.headers)
        return [answer.body]


def _consume(answer: Iterable[bytes]) -> None:
    for _ in answer:
        pass
    if hasattr(answer, "close"):
        answer.close()


def _drain(environ: Environ) -> None:
    """An answer to a request that was not read through would reach its sender as a reset connection."""
    if environ.get("CONTENT_LENGTH"):
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    elif environ.get("wsgi.input_terminated"):
        environ["wsgi.input"].read()


def hang_up(environ: Environ) -> NoReturn:
    """By a reset, as a failing load balancer does; detached, so that the server cannot say goodbye before."""
    with socket.socket(fileno=environ["werkzeug.socket"].detach()) as bare:
        if bare.family == socket.AF_INET:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError("localcloud fakes a lost answer")


# --- the address --------------------------------------------------------------------------------------------------


def control(environ: Environ, start_response: Respond, faults: Faults) -> Iterable[bytes]:
    """GET, POST, DELETE /_localcloud/faults, and DELETE /_localcloud/faults/<id>; JSON in, JSON out."""
    why = stranger(environ)
    if why:
        status, said = "403 Forbidden", {"error": why}
    else:
        try:
            status, said = _serve(environ, faults)
        except (FaultError, ValueError, TypeError) as error:
            status, said = "400 Bad Request", {"error": str(error)}
    body = json.dumps(said).encode() + b"\n"
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def stranger(environ: Environ) -> str:
    """Why this caller may not touch the faults; "" when it may. A web page may not, by whatever name it found us."""
    if environ.get(calls.GUEST):
        return "the cloud's controls are not for guests"
    if not _is_loopback(environ.get("HTTP_HOST", "")):
        return "faults are for this machine only: use http://127.0.0.1"
    if "HTTP_ORIGIN" in environ:
        return "faults are not for web pages"
    return ""


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _serve(environ: Environ, faults: Faults) -> tuple[str, dict[str, Any]]:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].rstrip("/")
    name = path[len(PATH) + 1 :] if path.startswith(PATH + "/") else ""
    if path != PATH and not name:
        return "404 Not Found", {"error": f"only {PATH} is here"}
    if method == "GET" and not name:
        return "200 OK", {"faults": [_shown(fault) for fault in faults.list()]}
    if method == "DELETE":
        faults.remove(name) if name else faults.clear()
        return "200 OK", {}
    if method == "POST" and not name:
        words = json.loads(environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), LIMIT)))
        return "201 Created", _shown(faults.add(fault_rules.read(words)))
    return "405 Method Not Allowed", {"error": f"{method} is not for {path}"}


def _shown(fault: fault_rules.Fault) -> dict[str, Any]:
    return {**fault.words(), "fake": str(fault)}

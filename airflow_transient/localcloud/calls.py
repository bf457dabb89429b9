"""Which AWS action a request asks for, of which service, where, and signed how.

REST services name no action: it is found in botocore's own models, by method, address and what must be there.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from airflow_transient.localcloud.fault_rules import Call
from airflow_transient.localcloud.s3_gate import FORM, Environ, is_unsigned_s3

# The request came through the guests' door; no header of a request can set this.
GUEST = "localcloud.guest"
# pool(form, region): instance type, zone and market of a RunInstances request.
Pool = Callable[[Mapping[str, str], str], tuple[str, str, str]]


def read(environ: Environ, pool: Pool) -> Call:
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    form = {**query, **_body_form(environ)}
    header = "HTTP_AUTHORIZATION" in environ
    presigned = not header and is_unsigned_s3(environ) and ("X-Amz-Signature" in query or _is_upload_form(environ))
    region, service = _scope(environ, query)
    service = service or ("s3" if is_unsigned_s3(environ) else "")
    protocol = _protocol(environ, service, form)
    action = _action(environ, service, protocol, form)
    kind, zone, market = pool(form, region) if action == "RunInstances" else ("", "", "")
    path = environ.get("PATH_INFO", "/")
    bucket = path.lstrip("/").partition("/")[0] if service == "s3" else ""
    guest = bool(environ.get(GUEST))
    return Call(action, service, protocol, region, zone, kind, market, bucket, header, presigned, guest)


def _scope(environ: Environ, query: Mapping[str, str]) -> tuple[str, str]:
    """Region and service, from the credential's scope."""
    text = environ.get("HTTP_AUTHORIZATION", "") or f"Credential={query.get('X-Amz-Credential', '')},"
    found = re.search(r"Credential=[^/]*/\d+/([^/]+)/([^/]+)/aws4_request", text)
    return (found[1], found[2]) if found else ("", "")


def _body_form(environ: Environ) -> dict[str, str]:
    """Of query protocols; the body is put back for whoever reads next."""
    if environ.get("PATH_INFO", "/") != "/" or not environ.get("CONTENT_TYPE", "").startswith(FORM):
        return {}
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _is_upload_form(environ: Environ) -> bool:
    return bool(environ["REQUEST_METHOD"] == "POST") and environ.get("CONTENT_TYPE", "").startswith(
        "multipart/form-data"
    )


def _protocol(environ: Environ, service: str, form: Mapping[str, str]) -> str:
    if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
        return "cbor"
    if "HTTP_X_AMZ_TARGET" in environ:
        return "json"
    if service == "ec2":
        return "ec2"
    if "Action" in form:
        return "query"
    return "rest-xml" if service == "s3" else "rest-json"


def _action(environ: Environ, service: str, protocol: str, form: Mapping[str, str]) -> str:
    if protocol == "json":
        return str(environ["HTTP_X_AMZ_TARGET"]).rpartition(".")[2]
    if protocol == "cbor":
        return str(environ["PATH_INFO"]).rpartition("/")[2]
    if protocol in ("ec2", "query"):
        return form.get("Action", "")
    if service == "s3" and _is_upload_form(environ):
        return "PostObject"
    return _routed(environ, service)


# --- REST -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """One operation of a model: it is meant when the path fits and all that it needs is there."""

    action: str
    method: str
    path: re.Pattern[str]
    needs: frozenset[str]
    literal: int


def _routed(environ: Environ, service: str) -> str:
    there = {name[5:].replace("_", "-").lower() for name in environ if name.startswith("HTTP_")}
    for name, value in parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True):
        there |= {name, f"{name}={value}"}
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
    fitting = [
        route
        for route in routes(service)
        if route.method == method and route.needs <= there and route.path.fullmatch(path)
    ]
    return max(fitting, key=lambda route: (len(route.needs), route.literal)).action if fitting else ""


@functools.cache
def routes(service: str) -> tuple[Route, ...]:
    import botocore.session
    from botocore.exceptions import UnknownServiceError

    try:
        model = botocore.session.get_session().get_service_model(service)
    except UnknownServiceError:
        return ()
    return tuple(_route(model.operation_model(name)) for name in model.operation_names)


def _route(operation: Any) -> Route:
    path, _, query = operation.http["requestUri"].partition("?")
    shape = operation.input_shape
    required = [shape.members[name].serialization for name in shape.required_members] if shape else []
    needs = {each["name"] for each in required if each.get("location") == "querystring"}
    needs |= {each["name"].lower() for each in required if each.get("location") == "header"}
    words = re.split(r"(\{[^}]+\})", path.rstrip("/"))
    pattern = "".join(_piece(word) for word in words) + "/?"
    literal = sum(len(word) for word in words if not word.startswith("{"))
    wanted = frozenset(needs | {word for word in query.split("&") if word})
    return Route(operation.name, operation.http["method"], re.compile(pattern, re.DOTALL), wanted, literal)


def _piece(word: str) -> str:
    if not word.startswith("{"):
        return re.escape(word)
    return ".+" if word.endswith("+}") else "[^/]+"

"""What an answer looks like: JSON as the original printed it, its errors, entity tags (RFC 9110) and links."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import JSONResponse, Response

NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and "
    "try again."
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
NOT_JSON = "Header Content-Type: application/json required to send a request body."
MALFORMED = "The browser (or proxy) sent a request that this server could not understand."

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_REVISION = re.compile(r"(\d+)-")


class Printed(JSONResponse):
    """Indented by four, keys sorted, a line feed at the end."""

    def render(self, content: Any) -> bytes:
        return (json.dumps(content, indent=4, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


class Refused(Exception):
    """Raised where it is found out; the guard, or the app's handler, sends it."""

    def __init__(self, status: int, body: str | Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body: Mapping[str, Any] = {"message": body} if isinstance(body, str) else body
        self.headers = dict(headers or {})

    def response(self) -> Response:
        return Printed(self.body, self.status, self.headers)


# --- links


def href(request: Request, *parts: str, **query: Any) -> str:
    """Below where the app is mounted, whatever prefix Airflow itself is served under."""
    path = "".join(f"/{quote(part, safe='')}" for part in parts)
    return f"{request.scope.get('root_path', '')}{path}" + (f"?{urlencode(query)}" if query else "")


def airflow_href(request: Request, *parts: str) -> str:
    """Below Airflow itself."""
    path = "".join(f"/{quote(part, safe='')}" for part in parts)
    return str(request.scope.get("app_root_path", "")) + path


def link(rel: str, title: str, href: str) -> dict[str, str]:
    return {"rel": rel, "title": title, "href": href}


def saved(request: Request, id: str) -> dict[str, Any]:
    """The answer to who has written a job."""
    return {"id": id, "link": item_link(request, id)}


def item_link(request: Request, id: str) -> dict[str, str]:
    return link("item", f"Job for {id}", href(request, "jobs", id))


# --- entity tags


def tagged(request: Request, body: Any, tag: str | None = None) -> Response:
    """
    The answer to a GET: with its tag, and without its body where the asker has that already.

    :param tag: default: made of the body.
    """
    answer = Printed(body)
    tag = tag or hashlib.sha256(answer.body).hexdigest()[:16]
    headers = {"ETag": f'"{tag}"'}
    if is_unwanted(request, tag):
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer


def is_unwanted(request: Request, tag: str) -> bool:
    """By If-None-Match, which is weak: a proxy that compresses weakens a tag, and the content is the same."""
    asked = ",".join(request.headers.getlist("if-none-match"))
    return asked.strip() == "*" or tag in _TAG.findall(asked)


def wanted_revisions(request: Request) -> set[int] | None:
    """
    Of If-Match; None where any will do.

    The tag of a job also tells what Airflow adds to it, which changes by itself (`lastRun`): only the document's
    revision counts for who would change it, and that is exact in a weak tag as well.
    """
    fields = request.headers.getlist("if-match")
    asked = ",".join(fields)
    if not fields or asked.strip() == "*":
        return None
    found = (_REVISION.match(tag) for tag in _TAG.findall(asked))
    return {int(revision[1]) for revision in found if revision}

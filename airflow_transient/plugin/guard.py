"""In front of every route: who asks, may another site make them ask, is there such a route, is the body bearable.

Pure ASGI, because FastAPI reads and parses a body before any of its dependencies runs: whoever is not let in here has
had nothing read. In order: 401, 403, 404, 405 (and OPTIONS), 415, 413; then the route, and 500 for what it did not
expect.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_transient.plugin import access, answers
from airflow_transient.plugin.answers import Refused

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024

#: Routes that run in threads, as Airflow's own do, and in the same pool of 40: a store that hangs may hold so many of
#: them, no more. What asks AWS waits without a thread (cache.py).
IN_THREADS = re.compile(r"/jobs(/.*)?", re.DOTALL)
AT_A_TIME = 16

#: The page and what it is made of: the same for everyone, and without data.
PUBLIC = re.compile(r"/page|/static/.*", re.DOTALL)

#: An order that needs no words may come without a body, and so without its type.
MAY_BE_EMPTY = re.compile(r"/jobs/[^/]+/run")

SAFE = {"GET", "HEAD", "OPTIONS"}
WITH_BODY = {"POST", "PUT"}

HEADERS = {
    # No script, style or picture of other hosts or written into the page; framed by Airflow only.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Cache-Control": "private, no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Guard:
    """
    :param routes: those of the app behind; looked through at each request, so more may be added.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self.routes = routes
        self.places = asyncio.Semaphore(AT_A_TIME)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, Outgoing(send, scope["method"] == "HEAD"))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Outgoing) -> None:
        try:
            await self._serve(scope, receive, send)
        except Refused as refused:
            await refused.response()(scope, receive, send)
        except Exception:
            if send.begun:
                raise
            await unexpected(scope).response()(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Outgoing) -> None:
        path, headers = below_mount(scope), Headers(scope=scope)
        public = PUBLIC.fullmatch(path) is not None
        if not public:
            scope[access.SCOPE_KEY] = await signed_in(scope)
            refuse_other_sites(scope, headers)
        allowed = self._methods(scope)
        if scope["method"] == "OPTIONS":
            return await Response(headers=allow(allowed))(scope, receive, send)
        if scope["method"] not in allowed:
            raise Refused(405, answers.NOT_ALLOWED, allow(allowed))
        if scope["method"] in WITH_BODY:
            refuse_other_types(path, headers)
            receive = Replay(await read(receive, headers), receive)
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: Airflow's access log reads the original
        if not IN_THREADS.fullmatch(path):
            return await self.app(scope, receive, send)
        async with Place(self.places) as place:
            # The work is done when the answer begins: who is slow to read it keeps nobody else waiting.
            send.at_begin = place.leave
            await self.app(scope, receive, send)

    def _methods(self, scope: Scope) -> set[str]:
        """Of all routes at this path: Starlette would name only the first one's."""
        found: set[str] = set()
        for route in self.routes:
            if route.matches(scope)[0] is not Match.NONE:
                found |= getattr(route, "methods", None) or {"GET"}
        if not found:
            raise Refused(404, answers.NOT_FOUND)
        return found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())


class Place:
    """One of so many at a time; it may be left before the end."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places: asyncio.Semaphore | None = None
        self._wanted = places

    async def __aenter__(self) -> Place:
        await self._wanted.acquire()
        self._places = self._wanted
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        taken, self._places = self._places, None
        if taken:
            taken.release()


def below_mount(scope: Scope) -> str:
    """As Starlette's router reads it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def allow(methods: set[str]) -> dict[str, str]:
    return {"Allow": ", ".join(sorted(methods))}


async def signed_in(scope: Scope) -> access.Who:
    try:
        return await access.sign_in(scope)
    except access.NotSignedIn as reason:
        raise Refused(401, f"{reason}: sign in to Airflow.", {"WWW-Authenticate": "Bearer"}) from reason


# --- requests that another site made a browser send


def refuse_other_sites(scope: Scope, headers: Headers) -> None:
    """Airflow's cookie travels with a request whoever made it, and not every login sets SameSite on it."""
    who: access.Who = scope[access.SCOPE_KEY]
    if who.ambient and scope["method"] not in SAFE and is_of_other_site(headers):
        raise Refused(403, "This request comes from another site: send it from Airflow's own pages, or with a token.")


def is_of_other_site(headers: Headers) -> bool:
    """Sec-Fetch-Site where the browser sends it (no page can write it; not over plain http), else Origin."""
    origin = headers.get("origin")
    if origin in access.trusted_origins():
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and urlsplit(origin).netloc not in _own_places(headers)


def _own_places(headers: Headers) -> set[str]:
    return {place for place in (headers.get("host"), urlsplit(access.own_origin()).netloc) if place}


# --- bodies


def refuse_other_types(path: str, headers: Headers) -> None:
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if empty and MAY_BE_EMPTY.fullmatch(path):
        return
    if not headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, answers.NOT_JSON)


async def read(receive: Receive, headers: Headers) -> bytes:
    """Said to be too large, it is not read at all; said nothing, no further than the limit."""
    said = headers.get("content-length", "0")
    if len(said) > len(str(MAX_BODY)) or int(said) > MAX_BODY:
        raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, answers.MALFORMED)  # nobody hears it, but Airflow's own middleware wants an answer
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _too_large() -> Refused:
    # Else the server would read the rest of it, in order to take the next request from the same connection.
    return Refused(413, f"A request body has at most {MAX_BODY} bytes: send less.", {"Connection": "close"})


class Replay:
    """What was read is given out again, and after it what really comes (that the client has left)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


# --- answers


class Outgoing:
    """Adds our headers to whatever is sent, and leaves a HEAD's body away."""

    def __init__(self, send: Send, bodiless: bool) -> None:
        self._send = send
        self._bodiless = bodiless
        self.begun = False
        self.at_begin: Callable[[], None] = lambda: None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self.at_begin()
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif self._bodiless and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)


def unexpected(scope: Scope) -> Refused:
    """Called where an exception is being handled; the answer tells where to look, and nothing of what is there."""
    reference = secrets.token_hex(4)
    log.exception("error %s: %s %r", reference, scope["method"], scope["path"])
    return Refused(500, f"Something went wrong here. The API server's log has it as error {reference}.")

"""A machine's metadata service, as reached at 169.254.169.254 from inside: a pure answer and a thin server.

Law: with HttpTokens=required an asking without a session token is refused with 401 (IMDSv2).
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

ADDRESS = "169.254.169.254"
TOKEN_HEADER = "x-aws-ec2-metadata-token"
TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
LONGEST_TTL = 21600


@dataclass(frozen=True)
class Metadata:
    """What a machine may know about itself; `tree` maps a path below /latest/meta-data/ to its text."""

    tree: Mapping[str, str]
    identity: Mapping[str, object]
    user_data: bytes
    hostname: str
    token_required: bool
    enabled: bool = True
    tokens: Tokens = field(default_factory=lambda: Tokens())


@dataclass
class Tokens:
    """Session tokens handed out to one machine, with their ends."""

    ends: dict[str, float] = field(default_factory=dict)

    def draw(self, seconds: int) -> str:
        token = secrets.token_urlsafe(40)
        self.ends[token] = time.monotonic() + seconds
        return token

    def good(self, token: str) -> bool:
        return self.ends.get(token, 0.0) > time.monotonic()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/plain"),)


def answer(metadata: Metadata, method: str, path: str, headers: Mapping[str, str]) -> Answer:
    """headers: lower-case names."""
    if not metadata.enabled:
        return Answer(403)
    if path == "/latest/api/token":
        return _token(metadata, method, headers)
    if method not in ("GET", "HEAD"):
        return Answer(405)
    token = headers.get(TOKEN_HEADER)
    if (token is None and metadata.token_required) or (token is not None and not metadata.tokens.good(token)):
        return Answer(401)
    text = _read(metadata, path)
    return Answer(404) if text is None else Answer(200, text)


def _token(metadata: Metadata, method: str, headers: Mapping[str, str]) -> Answer:
    if method != "PUT":
        return Answer(405)
    if "x-forwarded-for" in headers:  # AWS refuses tokens through a proxy
        return Answer(403)
    ttl = headers.get(TTL_HEADER, "")
    if not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL:
        return Answer(400)
    return Answer(200, metadata.tokens.draw(int(ttl)).encode(), ((TTL_HEADER, ttl), ("Content-Type", "text/plain")))


def _read(metadata: Metadata, path: str) -> bytes | None:
    version, _, rest = path.lstrip("/").partition("/")
    if version not in ("latest", "2021-07-15", "2009-04-04"):
        return None
    if rest == "user-data":
        return metadata.user_data or None
    if rest == "dynamic/instance-identity/document":
        return json.dumps(metadata.identity, indent=2).encode()
    if rest.rstrip("/") in ("", "meta-data"):
        return _listing(metadata.tree, "").encode() if rest else b"dynamic\nmeta-data\nuser-data"
    if not rest.startswith("meta-data/"):
        return None
    return _leaf(metadata.tree, rest[len("meta-data/") :])


def _leaf(tree: Mapping[str, str], name: str) -> bytes | None:
    if name in tree:
        return tree[name].encode()
    listing = _listing(tree, name.rstrip("/") + "/")
    return listing.encode() if listing else None


def _listing(tree: Mapping[str, str], folder: str) -> str:
    names = set()
    for path in tree:
        if path.startswith(folder):
            head, slash, _ = path[len(folder) :].partition("/")
            # A role's name is listed without a slash: it is a leaf.
            names.add(head + slash)
    return "\n".join(sorted(names))


# --- the server: one connection, one thread -------------------------------------------------------------

# reply(method, path, headers): what a metadata service says, this one or that of tasks.
Reply = Callable[[str, str, Mapping[str, str]], Answer]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = 30
    reply: Reply

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        given = self.reply(self.command, self.path.partition("?")[0], headers)
        self.send_response(given.status)
        for name, value in given.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(given.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(given.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def address_string(self) -> str:
        return "guest"

    def log_message(self, format: str, *args: object) -> None:
        """A guest's questions are nobody's log."""


def serve(connection: socket.socket, look: Callable[[], Metadata]) -> None:
    """Answer what comes over this connection, in a thread of its own."""
    serve_replies(connection, lambda method, path, headers: answer(look(), method, path, headers))


def serve_replies(connection: socket.socket, reply: Reply) -> None:
    handler = type("Handler", (_Handler,), {"reply": staticmethod(reply)})
    threading.Thread(target=_talk, args=(connection, handler), daemon=True).start()


def _talk(connection: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
    with connection, suppress(OSError):  # the guest hung up
        handler(connection, ("guest", 0), None)  # type: ignore[arg-type]

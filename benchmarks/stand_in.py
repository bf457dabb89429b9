"""A stand-in for SQS and S3 that answers at once, so that what is measured is ours."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

KEYS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_EC2_METADATA_DISABLED": "true"}


class StandIn(Protocol):
    def sqs(self, action: str, words: dict[str, Any]) -> dict[str, Any]: ...

    def s3(self, method: str, target: str, body: bytes) -> bytes: ...


def served(stand_in: StandIn) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer

        def answer(self) -> None:
            if self.headers.get("Expect"):  # "go on" was written, and is waited for
                self.wfile.flush()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            target = self.headers.get("X-Amz-Target")
            if target:
                said = json.dumps(stand_in.sqs(target.rpartition(".")[2], json.loads(body))).encode()
            else:
                said = stand_in.s3(self.command, self.path, body)
            self.send_response_only(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0" if target else "application/xml")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            self.wfile.flush()

        do_GET = do_PUT = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

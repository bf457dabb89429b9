"""S3, as far as receipts go: each machine has left that it started, and at its end that it ended well."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.fake.http import Asked, Told
from benchmarks.fake.world import World, iso

BUCKET, NONCE = "results", "nonce"


def answer(world: World, asked: Asked) -> Told:
    """Keys are receipts/<instance>/<name>."""
    *_, member, name = asked.path.partition("?")[0].split("/")
    one = world.resources.get(member)
    if asked.method != "GET":  # is there such a bucket? and what the first object is written by
        return Told(b"", "application/xml", 200 if asked.method == "HEAD" else 204)
    if one is None or name not in ("started.json", "receipt.json") or (name == "receipt.json" and not one.over):
        error = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
        return Told(error.encode(), "application/xml", 404)
    begun = iso(one.begun)
    said: dict[str, Any] = {"nonce": NONCE, "instance": member, "phase": "started", "booted": begun, "started": begun}
    if name == "receipt.json":
        said |= {"phase": "end", "exit_code": 0, "cause": "exit", "ended": iso(one.ended), "log_bytes": 0}
    return Told(json.dumps(said).encode(), "application/json")

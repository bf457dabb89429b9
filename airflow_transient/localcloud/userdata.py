"""What cloud-init would do with user data: the script it would run, or the words it would leave on the console.

Law: what cloud-init silently ignores is ignored here too; the machine then idles, as on AWS.
Measured with Debian's cloud-init 22.4.2: no shebang, a byte order mark, base64 twice -> not run, status "done".
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

# Kinds that cloud-init knows and this stand-in does not; it says so instead of pretending.
FOREIGN = {
    b"#cloud-config": "#cloud-config",
    b"#cloud-boothook": "a boothook",
    b"#include": "an #include list",
    b"#part-handler": "a part handler",
    b"## template:": "a template",
    b"content-type:": "MIME multipart",
    b"mime-version:": "MIME multipart",
}
UNPACK_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Orders:
    """What the first boot does: run this script, or run nothing and say this."""

    script: bytes | None = None
    words: str = ""


def orders(user_data: bytes) -> Orders:
    text = _unpacked(user_data)
    if not text:
        return Orders()
    if text.startswith(b"#!"):
        return Orders(script=_unix_lines(text))
    for start, name in FOREIGN.items():
        if text[: len(start)].lower() == start:
            return Orders(words=f"localcloud: user data is {name}, which only real cloud-init runs; nothing was run.")
    return _unhandled(text)


def refused(user_data: bytes) -> Orders:
    """As if a blank line stood before whatever this is: cloud-init then runs nothing, and says so."""
    return _unhandled(b"\n" + _unpacked(user_data))


def _unhandled(text: bytes) -> Orders:
    # cloud-init's own words; it is all one sees of user data that never ran.
    head = repr(text[:24])
    return Orders(words=f"__init__.py[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata: '{head}...'")


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data, UNPACK_LIMIT)
    except zlib.error:
        return data


def _unix_lines(script: bytes) -> bytes:
    """cloud-init's dos2unix: only when the first line ends in CR LF."""
    first, newline, _ = script.partition(b"\n")
    return script.replace(b"\r\n", b"\n") if newline and first.endswith(b"\r") else script

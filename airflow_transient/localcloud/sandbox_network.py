"""The network of a sandbox, seen from inside: some addresses, each relayed to a socket file of the host.

Standard library only, and syntax that Python 3.7 reads: the two agents, each process 1 of its sandbox, run it.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import threading
from typing import List, Tuple

SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x891C, 0x8914, 0x1


def raise_network(relays: List[Tuple[str, int, str]]) -> None:
    """relays: address, port, socket file."""
    _interface("lo", "127.0.0.1", "255.0.0.0")
    for number, address in enumerate(sorted({relay[0] for relay in relays} - {"127.0.0.1"})):
        _interface("lo:%d" % number, address, "255.255.255.255")
    for address, port, path in relays:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
        threading.Thread(target=_relay, args=(listener, path), daemon=True).start()


def _interface(name: str, address: str, mask: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, mask)):
            packed = struct.pack("16sH2s4s8x", name.encode(), socket.AF_INET, b"", socket.inet_aton(value))
            fcntl.ioctl(probe, request, packed)
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh", name.encode(), IFF_UP))


def _relay(listener: socket.socket, path: str) -> None:
    while True:
        guest, _ = listener.accept()
        host = socket.socket(socket.AF_UNIX)
        try:
            host.connect(path)
        except OSError:
            guest.close()
            continue
        for source, sink in ((guest, host), (host, guest)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

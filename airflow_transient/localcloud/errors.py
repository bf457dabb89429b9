"""What the local cloud cannot do, in sentences.

LocalCloudError
├── SandboxUnavailable   no way to run user data safely on this machine
├── NoBoto3              machines cannot have boto3 here
├── MotoMissing          the package's `local` extra is not installed
├── FaultError           a fault that cannot be asked for as it was
└── Refused              an answer AWS would give: a code and a message
"""

from __future__ import annotations


class LocalCloudError(Exception):
    """Anything the local cloud raises on purpose."""


class SandboxUnavailable(LocalCloudError):
    """No sandbox works here; the message says what was tried, why it failed and what to install."""


class NoBoto3(LocalCloudError):
    """`boto3=True`, and this machine's own Python is too old for it."""


class MotoMissing(LocalCloudError, ImportError):
    """The local cloud is built on moto, which is not installed."""


class FaultError(LocalCloudError, ValueError):
    """No such fault, or not with these words; the message says what there is."""


class Refused(LocalCloudError):
    """A request that AWS refuses: its error code, its words, its HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

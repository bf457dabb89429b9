"""What a run has sent, as lines of JSON in numbered parts: what the next try, or the next run, reads back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from airflow_transient.core.batch.naming import Wish

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"part-[0-9]+-[0-9a-f]+\.jsonl")


def run_name(dag_id: str, run_id: str, task_id: str, map_index: int, token: str) -> str:
    """A folder's name that says whose it is; the token alone makes it this run's."""
    words = [dag_id, run_id, task_id, *([str(map_index)] if map_index >= 0 else [])]
    return ".".join(_UNUSUAL.sub("-", each)[:60] for each in words) + f".{token}"


def part_name(number: int, writer: str) -> str:
    """:param writer: hexadecimal, of this process: an earlier try that still lives must not write over its parts."""
    return f"part-{number:06}-{writer}.jsonl"


def is_part(key: str) -> bool:
    return bool(_PART.fullmatch(key.rpartition("/")[2]))


def line(wish: Wish, message_id: str) -> str:
    return json.dumps({"id": wish.id, "input": wish.input, "bytes": wish.file.size, "message": message_id})


@dataclass
class Sent:
    """What was sent before: 16 bytes an id, and their sums."""

    ids: set[bytes] = field(default_factory=set)
    messages: int = 0
    bytes: int = 0

    def __contains__(self, wish: Wish) -> bool:
        return bytes.fromhex(wish.id) in self.ids

    def add(self, lines: Iterable[str]) -> None:
        """A line that cannot be read is no line: its file is sent again."""
        for job, size in _read(lines):
            if job not in self.ids:
                self.ids.add(job)
                self.messages += 1
                self.bytes += size


def _read(lines: Iterable[str]) -> Iterator[tuple[bytes, int]]:
    for each in lines:
        try:
            said = json.loads(each)
            job, size = said["id"], int(said["bytes"])
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(job, str) and _ID.fullmatch(job):
            yield bytes.fromhex(job), size

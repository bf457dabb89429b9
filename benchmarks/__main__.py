"""`make bench`, `python -m benchmarks`: every part of docs/performance.md, one after the other, and of two other pages.

Each part keeps what it has measured in .airflow/bench and writes its own table; one that fails keeps no other from
that, and can be run again by itself: `python -m benchmarks.waits --missing`.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.figures import ROOT

PARTS = ("imports", "bursts", "billing", "looks", "waits", "end_to_end", "targets", "enqueue", "worker")


def main() -> int:
    failed = [part for part in PARTS if not ran(part)]
    if failed:
        print(f"failed: {', '.join(failed)}. Each runs alone, too: python -m benchmarks.{failed[0]}", file=sys.stderr)
    return len(failed)


def ran(part: str) -> bool:
    began = time.monotonic()
    print(f"\n== {part} ({PARTS.index(part) + 1} of {len(PARTS)})", flush=True)
    with subprocess.Popen([sys.executable, "-m", f"benchmarks.{part}"], cwd=ROOT) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it has been told as well, and has what it started to end
            process.wait()
            raise
    print(f"== {part}: {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

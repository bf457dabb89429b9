"""`python -m benchmarks.waits`: what waits cost a triggerer, ours beside the stock provider's, on one fake of AWS.

Each run is a process of its own; ours and the stock's take turns. The tables go into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from airflow_transient.aws.polling import YOUNG
from airflow_transient.core.cadence import QUICK, shared
from benchmarks import figures, records, stock
from benchmarks.fake.process import FakeAws
from benchmarks.fake.sqs import QUEUE
from benchmarks.fake.world import AGE
from benchmarks.waiting import Plan

PART = "waits"
SIZES = (200, 1000, 5000)
#: Seconds between looks: the stock's own defaults, and ours.
STOCK_INTERVALS = {"ecs": 6.0, "ec2": 60.0}
OUR_INTERVAL = 15.0
#: So many waits the stock's triggers are run with at most; from there on it is reckoned. 1,000 EC2 sensors take more
#: than a core.
STOCK_BEARS = {"ecs": 1000, "ec2": 200}
LIMIT_SECONDS = 900
#: Seconds at rest, and over which some end; each rounded to whole intervals.
REST, SPREAD = 20.0, 20.0
#: So many intervals at rest: the stock's EC2 triggers make a client before each look, one after another, and so look
#: later each time; some fall out of a window of one interval.
SLIPPING = 3
WORDS = {"ecs": "ECS", "ec2": "EC2"}
#: Which of the fake's counters are calls to the service itself.
LOOKS = {"ecs": "DescribeTasks", "ec2": "DescribeInstances"}


def main() -> None:
    asked = wishes(sys.argv[1:])
    if not asked.tables:
        measure(list(plans(asked)), asked.missing)
    asked.kinds = list(WORDS)
    if found := measured(plans(asked)):
        figures.write("performance-waits", block(found), figures.PAGE)
    else:
        print("nothing was measured on this machine with these versions and windows: the page stays as it is")


def wishes(argv: Sequence[str] = ()) -> argparse.Namespace:
    """Without words: what the page is measured with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of waits")
    parser.add_argument("--kinds", nargs="+", choices=list(WORDS), default=list(WORDS))
    parser.add_argument("--rest", type=float, default=REST, help="about so many seconds at rest, whole intervals")
    parser.add_argument("--spread", type=float, default=SPREAD, help="over about so many 60 end")
    parser.add_argument("--stock-ecs", type=int, default=STOCK_BEARS["ecs"], help="the most of the stock's ECS waits")
    parser.add_argument("--stock-ec2", type=int, default=STOCK_BEARS["ec2"], help="the most of the stock's EC2 waits")
    parser.add_argument("--missing", action="store_true", help="only what was not measured before")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables anew")
    return parser.parse_args(argv)


def measured(wanted: Iterable[Plan]) -> dict[str, Any]:
    """The records of just these plans, their windows included."""
    found = records.kept(PART)
    return {name_of(plan): found[name_of(plan)] for plan in wanted if is_of(plan, found.get(name_of(plan)))}


def is_of(plan: Plan, record: Any) -> bool:
    return bool(record) and record["plan"] == asdict(plan)


def plans(wishes: argparse.Namespace) -> Iterator[Plan]:
    """The small ones first, the two sides by turns."""
    bears = {"ecs": wishes.stock_ecs, "ec2": wishes.stock_ec2}
    for kind in wishes.kinds:
        for size in wishes.sizes:
            yield plan("ours", kind, size, STOCK_INTERVALS[kind], wishes)
            if size <= bears[kind]:
                yield plan("stock", kind, size, STOCK_INTERVALS[kind], wishes)
        for size in [size for size in wishes.sizes if size > min(wishes.sizes) or len(wishes.sizes) == 1]:
            yield plan("ours", kind, size, OUR_INTERVAL, wishes)
        middle = sorted(wishes.sizes)[len(wishes.sizes) // 2]
        yield plan("ours", kind, middle, OUR_INTERVAL, wishes, events=True)


def plan(side: str, kind: str, size: int, interval: float, wishes: argparse.Namespace, events: bool = False) -> Plan:
    """Windows are whole intervals, and those at rest of our cadence as well: as many looks fall into each."""
    spread = interval * max(1, round(wishes.spread / interval))
    both = math.lcm(int(interval), int(shared(interval))) if interval >= 1 else interval
    rest = both * max(1, round(wishes.rest / both)) * (SLIPPING if (side, kind) == ("stock", "ec2") else 1)
    return Plan(
        side,
        kind,
        size,
        interval,
        events,
        settle=5.0,
        rest=rest,
        changes=60,
        spread=spread,
        end_all=interval <= OUR_INTERVAL,  # the others' last one would come a minute later
    )


def name_of(plan: Plan) -> str:
    return f"{plan.side} {plan.kind} {plan.waits} {plan.interval:g}{' events' if plan.events else ''}"


def measure(wanted: list[Plan], missing: bool) -> None:
    there = measured(wanted) if missing else {}
    left = [plan for plan in wanted if not is_sound(there.get(name_of(plan)))]
    for number, plan in enumerate(left, 1):
        print(f"{name_of(plan)} ({number} of {len(left)})", flush=True)
        record = run(plan)
        records.keep(PART, name_of(plan), {**record, "plan": asdict(plan)})
        print(f"{name_of(plan)}: {json.dumps(record)}", flush=True)


def run(plan: Plan) -> dict[str, Any]:
    """What its process has told; where it could not bear so many, why."""
    python = sys.executable if plan.side == "ours" else str(stock.python())
    with FakeAws() as aws:
        more = {**aws.env, **({"AIRFLOW__TRANSIENT__EVENTS_QUEUE": QUEUE} if plan.events else {})}
        env = stock.environment(more, records.FOLDER / f"home-{plan.side}")
        argv = [python, "-m", "benchmarks.waiting", json.dumps({**asdict(plan), "url": aws.url})]
        try:
            done = subprocess.run(
                argv, env=env, cwd=figures.ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"gave_up": f"not over after {LIMIT_SECONDS} s"}
        if done.returncode:
            return {"gave_up": last_words(done)}
        return {**json.loads(done.stdout.splitlines()[-1]), "fake_cpu": aws.door().cpu}


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Whom the system ends, for want of memory say, has none."""
    lines = done.stderr.strip().splitlines()
    how = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return lines[-1][:300] if lines and done.returncode > 0 else how


def is_sound(record: Any) -> bool:
    """Whether it tells of all its waits: it came to its end, no wait failed, and they were looked at while at rest."""
    if not record or "gave_up" in record or record.get("failures"):
        return False
    return bool(record["rest"]["calls"].get(LOOKS[record["plan"]["kind"]]))


# --- the table


def block(found: dict[str, Any]) -> str:
    head = [
        *("waits", "side", "looks every", "calls a minute", "calls in all", "CPU s a minute", "KiB a wait"),
        "start-up: s, CPU s",
        *("change → event: median / p95 / max", "stalls > 50 ms, > 200 ms, longest", "all end: last after, CPU s"),
    ]
    parts = []
    for kind, words in WORDS.items():
        mine = {name: record for name, record in found.items() if record["plan"]["kind"] == kind}
        if mine:
            parts.append(f"### {words}\n\n{figures.table(head, list(rows(mine)))}")
    return "\n\n".join([*parts, notes(found), told_by(found)])


def rows(found: dict[str, Any]) -> Iterator[list[str]]:
    by_size = sorted(found.values(), key=lambda record: (record["plan"]["waits"], _order(record["plan"])))
    sizes = sorted({record["plan"]["waits"] for record in by_size})
    for size in sizes:
        yield from (row(record) for record in by_size if record["plan"]["waits"] == size)
        if reckoned := reckon(found, size):
            yield reckoned_row(size, reckoned)


def _order(plan: dict[str, Any]) -> tuple[bool, bool, bool]:
    return plan["side"] == "ours", plan["interval"] == OUR_INTERVAL, plan["events"]


def row(record: dict[str, Any]) -> list[str]:
    plan = record["plan"]
    first = [f"{plan['waits']:,}", _side(plan), f"{plan['interval']:g} s{' + events' if plan['events'] else ''}"]
    if "gave_up" in record:
        return [*first, f"does not bear so many: {record['gave_up']}", *["–"] * 7]
    if record.get("failures"):
        return [*first, f"{record['failures']} waits failed: {record['failed'][0][:200]}", *["–"] * 7]
    start, end = record["start"], record.get("end_all")
    return [
        *first,
        calls_in_words(record, record["rest"]["calls"]),
        calls_in_words(record, record["calls"]),
        f"{record['rest']['cpu']:.2f}",
        f"{start['kib']:,.0f}",
        f"{start['seconds']:.1f}, {start['cpu']:.1f}",
        latency_in_words(record["changes"]),
        stalls_in_words(record),
        f"{end['last']:.1f} s, {end['cpu']:.1f}" if end and end["last"] else "–",
    ]


def _side(plan: dict[str, Any]) -> str:
    return "**ours**" if plan["side"] == "ours" else "stock"


def calls_in_words(record: dict[str, Any], counted: dict[str, float]) -> str:
    """The looks, and beside them what else was asked: receipts in S3, a queue's long poll."""
    calls = dict(counted)
    looks = calls.pop(LOOKS[record["plan"]["kind"]], 0)
    others = [f"{number:,.0f} {name}" for name, number in calls.items() if number >= 0.5]
    return f"{looks:,.0f}" + (f" (+ {', '.join(others)})" if others else "")


def latency_in_words(changes: dict[str, Any]) -> str:
    seconds = changes["latencies"]
    if not seconds:
        return "–"
    told = " / ".join(
        f"{value:.2f}" for value in (*(figures.share(seconds, part) for part in (0.5, 0.95)), seconds[-1])
    )
    lost = changes["changes"] - len(seconds)
    return f"{told} s" + (f" ({lost} not seen)" if lost else "")


def stalls(record: dict[str, Any]) -> list[dict[str, float]]:
    """At the start, while some end, and when all do."""
    return [record[part]["stalls"] for part in ("start", "changes", "end_all") if part in record]


def stalls_in_words(record: dict[str, Any]) -> str:
    """Those of garbage collections apart."""
    each = stalls(record)
    long, very_long, garbage = (sum(one[name] for one in each) for name in ("long", "very_long", "garbage"))
    longest, own = (max(one[name] for one in each) * 1000 for name in ("max", "max_without_garbage"))
    if not long:
        return "0"
    said = f"{long:.0f}, {very_long:.0f}, {longest:.0f} ms"
    return said + (f"; {garbage:.0f} by garbage collections, longest other {own:.0f} ms" if garbage else "")


def reckon(found: dict[str, Any], size: int) -> dict[str, float] | None:
    """The stock's for a number of waits that it was not run with, in proportion; None where it was."""
    stock = [r for r in found.values() if r["plan"]["side"] == "stock" and is_sound(r)]
    if not stock or any(r["plan"]["waits"] == size for r in stock):
        return None
    most = max(stock, key=lambda record: record["plan"]["waits"])
    times = size / most["plan"]["waits"]
    return {
        "calls": most["rest"]["calls"][LOOKS[most["plan"]["kind"]]] * times,
        "cpu": most["rest"]["cpu"] * times,
        "kib": most["start"]["kib"],
        "start_cpu": most["start"]["cpu"] * times,
        "interval": most["plan"]["interval"],
    }


def reckoned_row(size: int, said: dict[str, float]) -> list[str]:
    first = [f"{size:,}", "stock, reckoned", f"{said['interval']:g} s"]
    figures_of = [
        f"≈ {said['calls']:,.0f}",
        "–",
        f"≈ {said['cpu']:.0f}",
        f"≈ {said['kib']:,.0f}",
        f"–, ≈ {said['start_cpu']:.0f}",
    ]
    return [*first, *figures_of, *["–"] * 3]


def notes(found: dict[str, Any]) -> str:
    return (
        "“reckoned”: in proportion from the most waits that the stock's triggers were run with; a CPU of 60 s a minute "
        "is a whole core, and one event loop has no more. 6 s are a cadence of 5 s with us: intervals are rounded down "
        "to one that many share. CPU and calls a minute are those of the process while nothing ends; then 60 end at "
        "random moments; then, where the interval is short, all the others at once. Calls in all: of the whole run, "
        "start and end included. With us, what a machine left in S3 is read once after its start, in turns, and at its "
        "end: all machines are new to these processes, which still read at rest therefore. Events: a message is in the "
        "queue as soon as the state has changed; what EventBridge itself takes comes on top. All "
        f"tasks and machines were {AGE // 60} minutes old: younger than {YOUNG.seconds} s, ours are looked at every "
        f"{QUICK:g} s, whatever the interval. A stall counts without the time in which another program had the "
        "processor. Logging was off on both sides."
    )


def told_by(found: dict[str, Any]) -> str:
    versions = {r["plan"]["side"]: r["versions"] for r in found.values() if "versions" in r}
    names = {"apache-airflow-providers-amazon": "provider", "boto3": "boto3", "aiobotocore": "aiobotocore"}
    sides = [
        f"{side}: {', '.join(f'{words} {said[name]}' for name, words in names.items() if name in said)}"
        for side, said in sorted(versions.items())
    ]
    return figures.measured_by(
        "python -m benchmarks.waits", records.days(found), "; ".join([*sides, records.codes(found)])
    )


if __name__ == "__main__":
    main()

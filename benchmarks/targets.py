"""`python -m benchmarks.targets`: what was aimed at, beside what was measured. Reads the records, measures nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import bursts, figures, imports, looks, records, waits
from benchmarks.waits import LOOKS, OUR_INTERVAL, STOCK_INTERVALS, WORDS

N, MANY = 1000, 5000


@dataclass(frozen=True)
class Target:
    """
    `most`: what it may be, as `told` says it; `found` is None where nothing sound was measured. `why`: told where it
    is missed.
    """

    words: str
    found: float | None
    most: float
    told: Callable[[float], str]
    note: str = ""
    why: str = ""

    def row(self) -> list[str]:
        if self.found is None:
            return [self.words, f"not measured{f': {self.note}' if self.note else ''}", "–"]
        note = f" ({self.note})" if self.note else ""
        missed = f"**no**: {self.why}" if self.why else "**no**"
        return [self.words, f"{self.told(self.found)}{note}", "yes" if self.found <= self.most else missed]


def main() -> None:
    found = waits.measured(waits.plans(waits.wishes()))
    wanted = [*of_waits(found), *of_imports(), *of_bursts()]
    table = figures.table(["target", "ours", "holds?"], [target.row() for target in wanted])
    figures.write("performance-targets", f"{table}\n\n{told_by(found)}", figures.PAGE)


def told_by(found: dict[str, Any]) -> str:
    """Of all that is judged here."""
    parts = {part: records.kept(part) for part in (imports.PART, bursts.PART, looks.PART)} | {waits.PART: found}
    judged = {f"{part} {name}": record for part, runs in parts.items() for name, record in runs.items()}
    versions = ", ".join(f"{name} {records.origin()[name]}" for name in records.PACKAGES[1:])
    return figures.measured_by(
        "make bench", records.days(judged), ", ".join(filter(None, (versions, records.codes(judged))))
    )


def of_waits(found: dict[str, Any]) -> Iterator[Target]:
    for kind, share in (("ecs", 50), ("ec2", 100)):
        ratio, note = against_stock(found, kind, lambda run: run["rest"]["calls"][LOOKS[run["plan"]["kind"]]])
        words = f"{N:,} {WORDS[kind]} waits, equal interval: at most 1/{share} of the stock's {WORDS[kind]} calls"
        yield Target(words, ratio, 1 / share, _inverse, note)
        ratio, note = against_stock(found, kind, lambda run: sum(run["rest"]["calls"].values()))
        note = "; ".join(filter(None, (note, of_a_life(found, kind))))
        words = "the same, with all our calls to any service"
        yield Target(f"{words} ({WORDS[kind]})", ratio, 1 / share, _inverse, note, of_s3(found, kind))
    for kind in WORDS:
        ratio, note = against_stock(found, kind, lambda run: run["rest"]["cpu"])
        words = f"{N:,} {WORDS[kind]} waits, equal interval: at most 1/20 of its CPU"
        yield Target(words, ratio, 1 / 20, _inverse, note, of_the_client(kind))
    for kind in WORDS:
        run = sound(found, f"ours {kind} {N} {STOCK_INTERVALS[kind]:g}")
        yield Target(f"at most 40 KiB a wait ({WORDS[kind]})", run and run["start"]["kib"], 40, "{:.0f} KiB".format)
    for kind in WORDS:
        interval = STOCK_INTERVALS[kind]
        run = sound(found, f"ours {kind} {N} {interval:g}")
        words = f"p95 of change → event, by polling: at most the interval ({WORDS[kind]}, {interval:g} s)"
        yield Target(words, _p95(run), interval, _seconds("{:.1f} s"), _lost(run))
    for kind in WORDS:
        run = sound(found, f"ours {kind} {N} {OUR_INTERVAL:g} events")
        words = f"with events: p95 at most 1 s ({WORDS[kind]})"
        yield Target(words, _p95(run), 1, _seconds("{:.2f} s"), _lost(run))
    for kind in WORDS:
        for interval in (STOCK_INTERVALS[kind], OUR_INTERVAL):
            run = sound(found, f"ours {kind} {MANY} {interval:g}")
            words = f"{MANY:,} waits on less than half a core ({WORDS[kind]}, {interval:g} s)"
            yield Target(
                words, run and run["rest"]["cpu"] / 60, 0.5, "{:.2f} of a core".format, why=of_the_client(kind)
            )
    yield of_stalls(found)


def sound(found: dict[str, Any], name: str) -> Any:
    """What tells nothing of all its waits is judged as if it was not there."""
    run = found.get(name)
    return run if waits.is_sound(run) else None


def of_stalls(found: dict[str, Any]) -> Target:
    """The longest of all our runs; a run that is missing is no proof that there was none."""
    names = [waits.name_of(plan) for plan in waits.plans(waits.wishes()) if plan.side == "ours"]
    words, runs = "no stall of an event loop over 50 ms, Python's garbage collections apart", {}
    for name in names:
        if run := sound(found, name):
            runs[name] = max(one["max_without_garbage"] for one in waits.stalls(run)) * 1000
    if len(runs) < len(names):
        return Target(words, None, 50, str, f"{len(runs)} of {len(names)} runs")
    worst = max(runs, key=lambda name: runs[name])
    over = sum(longest > 50 for longest in runs.values())
    note = f"{over} of {len(runs)} runs have any; the longest: `{worst}`" if over else f"all {len(runs)} runs"
    return Target(words, runs[worst], 50, lambda longest: f"{longest:.0f} ms" if longest else "none", note)


def of_s3(found: dict[str, Any], kind: str) -> str:
    """Why all calls are more than the looks."""
    run = sound(found, f"ours {kind} {N} {STOCK_INTERVALS[kind]:g}")
    reads = run["rest"]["calls"].get("S3", 0.0) if run else 0.0
    told = f"{reads:.0f} a minute are of S3. What a machine left at its start is read once, in turns; here all were new"
    return told if reads >= 0.5 else ""


def of_a_life(found: dict[str, Any], kind: str) -> str:
    """What a wait asks for beside its looks, from its start to its end."""
    run = sound(found, f"ours {kind} {N} {OUR_INTERVAL:g}")
    once = {name: n / N for name, n in run["calls"].items() if name != LOOKS[kind] and n >= N / 2} if run else {}
    return ", ".join(
        f"{each:.1f} {name} requests a wait in a run of looks every {OUR_INTERVAL:g} s" for name, each in once.items()
    )


def against_stock(found: dict[str, Any], kind: str, read: Callable[[Any], float]) -> tuple[float | None, str]:
    """Ours as a share of the stock's; the note says where the stock's was reckoned from fewer waits."""
    ours = sound(found, f"ours {kind} {N} {STOCK_INTERVALS[kind]:g}")
    runs = [r for r in found.values() if r["plan"]["side"] == "stock" and r["plan"]["kind"] == kind]
    runs = [run for run in runs if waits.is_sound(run) and run["plan"]["waits"] <= N]
    if not (ours and runs):
        return None, ""
    most = max(runs, key=lambda run: run["plan"]["waits"])
    size = most["plan"]["waits"]
    if not (read(ours) and read(most)):  # nobody waits for nothing: what was measured is no wait
        return None, ""
    return read(ours) * size / N / read(most), "" if size == N else f"the stock's reckoned from {size:,} waits"


def of_the_client(kind: str) -> str:
    """Why a look costs CPU: most of it is boto3's."""
    said = records.kept(looks.PART).get(kind)
    return f"{looks.client_share(said):.0%} of a look is boto3's: to sign, send, receive and read" if said else ""


def of_imports() -> Iterator[Target]:
    """The least of the runs, as the page shows it: a busy machine makes CPU time dearer, never cheaper."""
    kept = records.kept(imports.PART)
    ours = [kept[name] for name in imports.OURS if name in kept and kept[name]["runs"] >= imports.RUNS]
    ours = ours if len(ours) == len(imports.OURS) else []
    named = {name.rpartition(".")[0]: kept[name] for name in imports.OURS} if ours else {}
    dearest = max(named, key=lambda name: named[name]["least"], default="")
    most = named[dearest]["least"] if dearest else None
    words = f"each of our modules in a DAG file: at most {imports.TARGET:.2f} CPU s over Airflow's own"
    yield Target(words, most, imports.TARGET, f"{{:.3f}} s (the dearest: `{dearest}`)".format)
    heavy = sorted({name for said in ours for name in said["heavy"]})
    words = "no boto3, no botocore, no FastAPI in a DAG file"
    yield Target(words, len(heavy) if ours else None, 0, lambda n: ", ".join(heavy) or "none")


def of_bursts() -> Iterator[Target]:
    """No number was set for it: within a tenth of what the limits allow counts as reaching them."""
    run: Any = records.kept(bursts.PART).get("ecs")
    words = f"a burst of {bursts.TASKS} ECS tasks in the time of AWS's limits, a tenth on top"
    note = ""
    if run and not run["count"] == run["came"] == bursts.TASKS:
        run, note = None, f"{run['came']} of {run['count']} were started"
    yield Target(words, run and run["seconds"] / run["floor"], 1.1, "{:.2f} of it".format, note)


def _p95(run: Any) -> float | None:
    """What was never seen took for ever."""
    if not run or not run["changes"]["changes"]:
        return None
    seen = run["changes"]["latencies"]
    return figures.share([*seen, *[math.inf] * (run["changes"]["changes"] - len(seen))], 0.95)


def _lost(run: Any) -> str:
    changes: dict[str, Any] = run["changes"] if run else {"changes": 0, "latencies": []}
    lost = changes["changes"] - len(changes["latencies"])
    return f"{lost} of {changes['changes']} never seen" if lost else ""


def _seconds(form: str) -> Callable[[float], str]:
    return lambda seconds: form.format(seconds) if math.isfinite(seconds) else "never"


def _inverse(ratio: float) -> str:
    return f"1/{1 / ratio:.0f}" if ratio else "0"


if __name__ == "__main__":
    main()

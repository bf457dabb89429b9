"""`python -m benchmarks.billing`: seconds of a machine that are billed after its job's own end, on a simulated clock.

Ours beside the arrangements that our users come from, and the stock operators. Each is a function from a job to the
moment at which its machine is no longer billed; where chance decides (a period's phase), the mean over all phases.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.localcloud import LocalCloud
from benchmarks import figures, records

PART = "billing"
#: Seconds of a job, from its first to its last.
JOBS = (60, 5 * 60, 10 * 60, 30 * 60, 3600, 2 * 3600, 5 * 3600)
#: Seconds; assumptions, told below the table. From the launch to the job's first second; a guest's poweroff till EC2
#: sees it; a task's way to a worker, from the moment it could run.
BOOT, POWEROFF, WORKER = 60, 10, 5
#: EC2 bills by the second, a minute at least (Linux on-demand).
LEAST = 60
PHASES = range(60)


def ours(job: int, phase: int, upload: float) -> float:
    """The boot script uploads what the job left, then powers off; its shutdown behaviour is terminate."""
    return BOOT + job + upload + POWEROFF


def stop_action(minutes: int) -> Callable[[int, int, float], float]:
    """A scheduled action sets the group to 0 so many minutes after the one that set it to 1."""
    return lambda job, phase, upload: minutes * 60.0


def alarm(counts_in_flight: bool) -> Callable[[int, int, float], float]:
    """
    Two whole periods of a minute in which the queue looks empty, then the group is set to 0.

    Of visible messages alone (the sample's alarm) it looks empty once the last one is received: when the job begins.
    """

    def end(job: int, phase: int, upload: float) -> float:
        empty = BOOT + (job if counts_in_flight else 0)
        return empty + (60 - (empty + phase) % 60) % 60 + 2 * 60

    return end


def stock(job: int, phase: int, upload: float) -> float:
    """EC2CreateInstance, a sensor that pokes each minute, EC2TerminateInstance on a worker."""
    done = BOOT + job
    return done + (60 - (done + phase) % 60) % 60 + WORKER


ARRANGEMENTS: Mapping[str, Callable[[int, int, float], float]] = {
    "**ours**": ours,
    "stop action after 15 min": stop_action(15),
    "stop action after 55 min": stop_action(55),
    "alarm, 2 × 60 s, visible": alarm(counts_in_flight=False),
    "the same, with in flight": alarm(counts_in_flight=True),
    "stock: create, sensor 60 s, terminate": stock,
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("three machines of the local cloud, from their jobs' ends to their poweroffs", flush=True)
    upload = measured_upload()
    rows = {str(job): {name: billed(end, job, upload) for name, end in ARRANGEMENTS.items()} for job in JOBS}
    records.keep(PART, "after the end", {"upload": upload, "jobs": rows})
    figures.write("performance-billing", block(records.kept(PART)), figures.PAGE)


def billed(end: Callable[[int, int, float], float], job: int, upload: float) -> dict[str, float]:
    """After the job's end; where the machine went before, the share of the job that was cut off."""
    over = BOOT + job
    ends = [end(job, phase, upload) for phase in PHASES]
    after = [max(float(LEAST), moment) - over for moment in ends if moment >= over]
    lost = [over - moment for moment in ends if moment < over]
    return {
        "after": statistics.mean(after) if after else 0.0,
        "cut": len(lost) / len(ends),
        "lost": max(lost, default=0),
    }


def measured_upload() -> float:
    """From the job's own end to the guest's poweroff, on the local cloud: the least of three."""
    from tests.e2e.machines import Site

    with LocalCloud() as cloud:
        site = Site(cloud)
        return min(_one_upload(site) for _ in range(3))


def _one_upload(site: Any) -> float:
    launch = site.launch(command="echo done")
    while True:
        seen: Ec2Sighting = site.launcher.observe(launch, _now())[0]
        if seen.state in ("shutting-down", "terminated", "stopping", "stopped"):
            moment = time.time()
            break
        time.sleep(0.05)
    return max(0.0, moment - float(site.verdict(launch).ended.timestamp()))


def _now() -> Any:
    from tests.e2e.machines import now

    return now()


def block(found: dict[str, Any]) -> str:
    said = found["after the end"]
    rows = [
        [_length(int(job)), *(_told(one[name], int(job)) for name in ARRANGEMENTS)] for job, one in said["jobs"].items()
    ]
    notes = (
        f"Seconds. Reckoned with: {BOOT} s from the launch to the job's first second, {POWEROFF} s from a guest's "
        f"poweroff till EC2 bills no more (both assumed), {said['upload']:.1f} s for what our boot script does between "
        f"the two (measured on the local cloud; a log of some lines), {WORKER} s till a task is on a worker (assumed); "
        f"by the second, {LEAST} s at least. “cut”: the machine is taken away before the job's end. The alarm counts "
        "messages of which a machine has received the last when its job begins. Where a guest powers itself off and "
        "its group only stops it, its disk is billed on until the stop action; disks are not in this table."
    )
    own = figures.measured_by("python -m benchmarks.billing", records.days(found), records.codes(found))
    return f"{figures.table(['job of', *ARRANGEMENTS], rows)}\n\n{notes}\n\n{own}"


def _length(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 3600 else f"{seconds // 60} min"


def _told(one: dict[str, float], job: int) -> str:
    if one["cut"] == 1:
        return "cut"
    said = f"{one['after']:,.0f}"
    return f"{said}, or cut ({one['cut']:.0%})" if one["cut"] else said


if __name__ == "__main__":
    main()

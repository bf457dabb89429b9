"""`make demo`: the example DAGs through Airflow on the local cloud, and then what is really there, read back.

Whatever the summary says was asked of the cloud and of Airflow's database after the run, not remembered from it; a
part that did not really happen makes the exit status 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import FrameType
from typing import Any

import _batch_act as batch_act
import _queue_act as queue_act
from _children import end_with_parent, managed
from _furniture import BUCKET, furnish, local_cloud
from up import ROOT, airflow_env, say, tail

from airflow_transient.localcloud import LocalCloud

DAG_ID, TASK_ID = "nightly_report", "report"
HOME = ROOT / ".airflow" / "demo"
LOG = HOME / "dags-test.log"
SECONDS = 5
#: Lines of Airflow's log that tell the story; the rest is in the log file.
_STORY = re.compile(
    r"(?<=\] )((launched|\d+ (wanted|more|running|waiting|starting|ending|ended))\b|i-[0-9a-f]+: |launch t\S+: "
    r"|(jobs|batch): ).*?(?=\s+\[airflow|$)"
)


@dataclass
class Check:
    """What was read back, and what is not as it should be."""

    faults: list[str] = field(default_factory=list)

    def need(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


def main() -> int:
    end_when_asked()
    began = time.monotonic()
    with local_cloud() as (cloud, no_workers):
        # Airflow's own default is five minutes: what fails here is to be seen at once.
        env = airflow_env(HOME, cloud.env) | furnish(cloud) | {"AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1"}
        say("A job on a machine that exists only while it runs.\n")
        say(f"  local cloud    {cloud.url}, jobs run in {cloud.sandbox} (no AWS account is touched)")
        say("  airflow        db migrate (a fresh home)")
        codes = [make_home(env)]
        say(f"  airflow        dags test {DAG_ID}: digits of pi for {SECONDS} s\n")
        codes += [airflow(env, "dags", "test", DAG_ID, "--conf", json.dumps({"duration": SECONDS}))]
        faults = summary(cloud, max(codes))
        say("\n\nA burst of tasks, as many as a queue asks for.\n")
        queue_act.fill(cloud)
        say(f"  airflow        dags test {queue_act.DAG_ID}\n")
        codes += [airflow(env, "dags", "test", queue_act.DAG_ID)]
        faults += queue_act.summary(cloud, xcom)
        say("\n\nA batch of files, on machines that come and go with their queue; one worker is killed at work.\n")
        if no_workers:
            say(f"  LEFT OUT       {no_workers}")
        else:
            batch_act.fill(cloud)
            say(f"  airflow        dags test {batch_act.DAG_ID}\n")
            with batch_act.one_worker_killed(told):
                codes += [airflow(env, "dags", "test", batch_act.DAG_ID)]
            faults += batch_act.summary(cloud, list(described(cloud, batch_act.DAG_ID)), left_by)
    say(f"\n  {time.monotonic() - began:.0f} s in all; Airflow's whole output is in {os.path.relpath(LOG)}")
    for fault in faults:
        say(f"  NOT AS IT SHOULD BE: {fault}")
    if any(codes):
        say(f"\nThe end of {LOG}:\n{tail(LOG)}")
    return 1 if faults or any(codes) else 0


def end_when_asked() -> None:
    def end(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit("\nEnding the demo and everything it started.")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    if "MAKELEVEL" in os.environ:
        end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))


def make_home(env: Mapping[str, str]) -> int:
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    return airflow(env, "db", "migrate")


def airflow(env: Mapping[str, str], *words: str) -> int:
    """One command, as a person would give it; the launch's lines are shown as they come."""
    with LOG.open("a", encoding="utf-8") as log:
        return follow([sys.executable, "-m", "airflow", *words], env, log)


def follow(argv: list[str], env: Mapping[str, str], log: Any) -> int:
    with managed(
        argv,
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        said = None
        for line in child.stdout or ():
            log.write(line)
            found = _STORY.search(re.sub(r"\x1b\[[0-9;]*m", "", line))
            if found and found[0] != said:
                said = found[0]
                told(said)
        log.flush()
        return int(child.wait())


def told(what: str) -> None:
    """Something that has just happened."""
    say(f"  {datetime.now():%H:%M:%S}       {what}")


def summary(cloud: LocalCloud, code: int) -> list[str]:
    """Ask the cloud and Airflow what there is, and print it."""
    check = Check()
    check.need(code == 0, f"airflow dags test ended with {code}")
    instances = list(described(cloud))
    check.need(len(instances) == 1, f"{len(instances)} instances were launched, not 1")
    say("\n  read back from the cloud")
    for instance in instances:
        tell_instance(cloud, instance, check)
    verdict = xcom()
    check.need(verdict.get("outcome") == "succeeded", f"the verdict in XCom is {verdict.get('outcome')!r}")
    say(f"  verdict        {verdict.get('outcome')} (XCom of {DAG_ID}.{TASK_ID}), result {verdict.get('result')}")
    left = [i["InstanceId"] for i in described(cloud) if i["State"]["Name"] != "terminated"]
    check.need(not left, f"left running: {left}")
    check.need(not cloud.sandbox_pids(), f"sandboxes are left: {cloud.sandbox_pids()}")
    say(f"  left running: {len(left)} instances")
    return check.faults


def described(cloud: LocalCloud, dag_id: str = DAG_ID) -> Iterator[dict[str, Any]]:
    mine = [{"Name": "tag:transient:dag", "Values": [dag_id]}]
    for page in cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=mine):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def tell_instance(cloud: LocalCloud, instance: dict[str, Any], check: Check) -> None:
    member = instance["InstanceId"]
    state, reason = instance["State"]["Name"], instance.get("StateReason", {}).get("Code")
    objects = kept(cloud, member)
    receipt = json.loads(read(cloud, objects, "receipt.json") or "{}")
    say(f"  instance       {member}, {instance['InstanceType']}, {state} ({reason})")
    say(f"  launched       {instance['LaunchTime']:%H:%M:%S} UTC")
    say(f"  job started    {clock(receipt.get('started'))}, ended {clock(receipt.get('ended'))}")
    say(f"  exit code      {receipt.get('exit_code')} (its receipt in S3)")
    log = read(cloud, objects, "job.log").decode(errors="replace").splitlines()
    for line in log[-3:]:
        say(f"  log            {line}")
    seconds = billed(instance, receipt)
    say(f"  billed         {seconds} s, from EC2's launch time to its end (60 s at least)")
    name, size = next(((k, s) for k, s in objects.items() if k.endswith("/pi.txt")), ("no object", 0))
    say(f"  result         s3://{BUCKET}/{name}, {size:,} bytes, {read(cloud, objects, 'pi.txt')[:12].decode()}…")
    check.need(state == "terminated", f"{member} is {state}")
    check.need(bool(receipt.get("started") and receipt.get("ended")), f"{member} does not say when its job ran")
    check.need(bool(log), "the job's log is empty")
    check.need(seconds >= 60, f"{member} was billed {seconds} s")
    check.need(reason == "Client.InstanceInitiatedShutdown", f"{member} ended by {reason}, not by its own shutdown")
    check.need(receipt.get("exit_code") == 0, f"the receipt of {member} says {receipt or 'nothing'}")
    check.need(size > 0, "the result object is empty or missing")
    check.need(read(cloud, objects, "pi.txt").startswith(b"3.14159"), "what was uploaded is not pi")


def billed(instance: dict[str, Any], receipt: Mapping[str, Any]) -> int:
    """Seconds from EC2's launch time to its date of the end, or the receipt's where EC2 gives none; 0: neither does."""
    ended = re.search(r"\((\S+ \S+) (?:GMT|UTC)\)", instance.get("StateTransitionReason") or "")
    moment = ended[1] if ended else (receipt.get("ended") or "").replace("T", " ").rstrip("Z")
    if not moment:
        return 0
    end = datetime.strptime(moment, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return max(60, round((end - instance["LaunchTime"]).total_seconds()))


def kept(cloud: LocalCloud, member: str) -> dict[str, int]:
    pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    found = (o for page in pages for o in page.get("Contents", ()))
    return {o["Key"]: o["Size"] for o in found if f"/{member}/" in o["Key"]}


def read(cloud: LocalCloud, objects: Mapping[str, int], name: str) -> bytes:
    key = next((k for k in objects if k.endswith("/" + name)), None)
    if key is None:
        return b""
    return bytes(cloud.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


def xcom(dag_id: str = DAG_ID, task_id: str = TASK_ID, key: str = "return_value") -> dict[str, Any]:
    """What `left_by` tells, where it is a table of words; empty where there is nothing."""
    said = left_by(dag_id, task_id, key)
    return said if isinstance(said, dict) else {}


def left_by(dag_id: str, task_id: str, key: str = "return_value") -> Any:
    """What a task has left, from Airflow's own database."""
    if not (HOME / "airflow.db").exists():
        return None
    with sqlite3.connect(HOME / "airflow.db") as database:
        row = database.execute(
            "SELECT value FROM xcom WHERE dag_id = ? AND task_id = ? AND key = ?",
            (dag_id, task_id, key),
        ).fetchone()
    said = row[0] if row else None
    with suppress(ValueError):  # a text, once it is no JSON any more
        while isinstance(said, str):
            said = json.loads(said)
    return said


def clock(moment: str | None) -> str:
    return f"{moment[11:19]} UTC" if moment else "never"


if __name__ == "__main__":
    sys.exit(main())

"""The demo's second act: sixty messages, a burst that a queue's depth has sized, and nothing left of either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from _furniture import BUCKET
from send_jobs import send
from up import say

from airflow_transient.localcloud import LocalCloud

DAG_ID, TASK_ID, QUEUE = "queue_burst", "work", "jobs"
MESSAGES, PER_TASK = 60, 10
COUNTERS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def fill(cloud: LocalCloud) -> None:
    send(cloud.client("sqs"), QUEUE, MESSAGES)
    say(f"  queue          {MESSAGES} messages are in {QUEUE}")


def summary(cloud: LocalCloud, xcom: Callable[..., dict[str, Any]]) -> list[str]:
    """Ask the cloud and Airflow what there is, and print it; what is not as it should be."""
    size, verdict = xcom(DAG_ID, TASK_ID, "size"), xcom(DAG_ID, TASK_ID)
    tasks = list(described(cloud, verdict.get("ids", [])))
    times = Counter(name.split("/")[1] for name in results(cloud))
    left, counters = running(cloud), depth(cloud)
    say("\n  read back from the cloud")
    say(f"  why so many    {size.get('count')}: {size.get('reason')}")
    for task in tasks:
        say(f"  task           {told(task)}")
    say(f"  messages       {len(times)} done, {sum(times.values())} results, in the queue: {sum(counters)}")
    say(f"  verdict        {verdict.get('outcome')} (XCom of {DAG_ID}.{TASK_ID}), {verdict.get('counts')}")
    say(f"  left running: {len(left)} tasks")
    faults = {
        f"{size.get('count')} tasks were launched, not {MESSAGES // PER_TASK}": size.get("count")
        == MESSAGES // PER_TASK,
        f"{len(tasks)} tasks are there, and {size.get('count')} were asked for": len(tasks) == size.get("count"),
        f"{len(times)} messages were done, not {MESSAGES}": len(times) == MESSAGES,
        f"done more than once: {[job for job, n in times.items() if n > 1]}": set(times.values()) <= {1},
        f"the queue still holds {counters}": not any(counters),
        f"the verdict in XCom is {verdict.get('outcome')!r}": verdict.get("outcome") == "succeeded",
        f"left running: {left}": not left,
        f"sandboxes are left: {cloud.sandbox_pids()}": not cloud.sandbox_pids(),
    }
    return [fault for fault, holds in faults.items() if not holds]


def described(cloud: LocalCloud, ids: list[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(ids), 100):
        yield from cloud.client("ecs").describe_tasks(cluster="default", tasks=ids[start : start + 100])["tasks"]


def told(task: dict[str, Any]) -> str:
    (container,) = task["containers"]
    seconds = (task["stoppedAt"] - task["startedAt"]).total_seconds() if task.get("startedAt") else 0
    where = task.get("capacityProviderName") or task.get("launchType")
    return (
        f"{task['taskArn'][-32:]}, {where}, {task.get('stopCode')}, exit {container.get('exitCode')}, {seconds:.0f} s"
    )


def results(cloud: LocalCloud) -> list[str]:
    pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{DAG_ID}/")
    return [found["Key"] for page in pages for found in page.get("Contents", ())]


def depth(cloud: LocalCloud, queue: str = QUEUE) -> list[int]:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    said = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTERS))["Attributes"]
    return [int(said[name]) for name in COUNTERS]


def running(cloud: LocalCloud) -> list[str]:
    """Every task of the cluster that is to run, whoever launched it."""
    listed: list[str] = cloud.client("ecs").list_tasks(cluster="default")["taskArns"]
    return listed

"""SQS: one queue, into which EventBridge puts a message for everything that ends, and a long poll that gives it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from typing import Any

from benchmarks.fake import ecs
from benchmarks.fake.http import Told
from benchmarks.fake.world import ACCOUNT, REGION, Resource, World, iso

QUEUE = "benchmark-events"
JSON = "application/x-amz-json-1.0"


async def receive(world: World, said: dict[str, Any]) -> Told:
    """Waits till there is one, as long as it is asked to; then all that are there, ten at most."""
    try:
        first = await asyncio.wait_for(world.queue.get(), max(0.001, float(said.get("WaitTimeSeconds", 0))))
    except asyncio.TimeoutError:
        return told({})
    found, most = [first], int(said.get("MaxNumberOfMessages", 1))
    while len(found) < most and not world.queue.empty():
        found.append(world.queue.get_nowait())
    return told({"Messages": [message(world, id, receives + 1) for id, receives in found]})


def delete(world: World, said: dict[str, Any]) -> Told:
    for entry in said["Entries"]:
        world.given.pop(entry["ReceiptHandle"], None)
    return done(said)


def release(world: World, said: dict[str, Any]) -> Told:
    """What is given back is there for the next at once; what is neither deleted nor given back is gone here."""
    for entry in said["Entries"]:
        if entry["VisibilityTimeout"] == 0 and (given := world.given.pop(entry["ReceiptHandle"], None)):
            world.queue.put_nowait(given)
    return done(said)


def done(said: dict[str, Any]) -> Told:
    return told({"Successful": [{"Id": entry["Id"]} for entry in said["Entries"]], "Failed": []})


def url(world: World, said: dict[str, Any]) -> Told:
    return told({"QueueUrl": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{said['QueueName']}"})


def attributes(world: World, said: dict[str, Any]) -> Told:
    numbers = dict.fromkeys((f"ApproximateNumberOfMessages{name}" for name in ("NotVisible", "Delayed")), "0")
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}"
    return told({"Attributes": {**numbers, "ApproximateNumberOfMessages": str(world.queue.qsize()), "QueueArn": arn}})


ANSWERS = {
    "DeleteMessageBatch": delete,
    "ChangeMessageVisibilityBatch": release,
    "GetQueueUrl": url,
    "GetQueueAttributes": attributes,
}


def message(world: World, id: str, receives: int) -> dict[str, Any]:
    one, handle = world.resources[id], uuid.uuid4().hex
    world.given[handle] = id, receives
    body = json.dumps(event(one))
    return {
        "MessageId": str(uuid.uuid4()),
        "ReceiptHandle": handle,
        "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "Body": body,
        "Attributes": {
            "ApproximateReceiveCount": str(receives),
            "SentTimestamp": str(int(one.ended * 1000)),
            "ApproximateFirstReceiveTimestamp": str(int(time.time() * 1000)),
        },
    }


def event(one: Resource) -> dict[str, Any]:
    """As EventBridge tells it."""
    common = {"version": "0", "id": str(uuid.uuid4()), "account": ACCOUNT, "region": REGION, "time": iso(one.ended)}
    if one.kind == "ecs":
        arn = f"{ecs.ARN}:task/default/{one.id}"
        detail = json.loads(json.dumps(ecs.task(one)))
        return {
            **common,
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "resources": [arn],
            "detail": {**detail, **{name: iso(one.ended) for name in detail if name.endswith("At")}},
        }
    return {
        **common,
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "resources": [f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{one.id}"],
        "detail": {"instance-id": one.id, "state": "terminated"},
    }


def told(said: dict[str, Any]) -> Told:
    return Told(json.dumps(said).encode(), JSON)

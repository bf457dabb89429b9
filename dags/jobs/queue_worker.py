"""Work through an SQS queue, and end when it has stayed empty: what the container of task definition queue-worker runs.

A message is deleted after its result is kept, so one whose worker dies is done again by another: at least once.
"""

import json
import os
import time
import uuid

import boto3

#: So many receives in a row that bring nothing end the work.
IDLE_RECEIVES = 2
SECONDS_A_RECEIVE = 1


def main() -> None:
    sqs, s3 = boto3.client("sqs"), boto3.client("s3")
    queue = sqs.get_queue_url(QueueName=os.environ["QUEUE"])["QueueUrl"]
    bucket, _, prefix = os.environ["RESULTS"].removeprefix("s3://").partition("/")
    done = idle = 0
    while idle < IDLE_RECEIVES:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=5, WaitTimeSeconds=SECONDS_A_RECEIVE)
        messages = answer.get("Messages", [])
        idle = 0 if messages else idle + 1
        for message in messages:
            job = json.loads(message["Body"])
            result = {"job": job, "launch": os.environ.get("TRANSIENT_LAUNCH"), "at": time.time()}
            key = f"{prefix}/{job['id']}/{uuid.uuid4().hex}.json"
            s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(result).encode())
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            done += 1
        if messages:
            print(f"{done} messages done", flush=True)
    print(f"the queue is empty: {done} messages done in all", flush=True)


main()

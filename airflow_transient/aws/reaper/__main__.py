"""`python -m airflow_transient.aws.reaper --region eu-west-1`: without Airflow, and then only deadlines decide."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from airflow_transient.aws.reaper import KINDS, Reaper


def main(argv: Sequence[str] | None = None) -> int:
    """For cron: boto3's own credentials, no Airflow, so that deadlines are enforced while Airflow is down."""
    import boto3
    from botocore.config import Config

    parser = argparse.ArgumentParser(prog="python -m airflow_transient.aws.reaper", description=main.__doc__)
    parser.add_argument("--region", nargs="+", action="extend", help="default: boto3's own")
    parser.add_argument(
        "--only", choices=KINDS, help="look at instances (ec2), ECS tasks (ecs) or Auto Scaling groups (asg) only"
    )
    parser.add_argument("--cluster", nargs="+", action="extend", help="ECS clusters by name or ARN; default: all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    said = parser.parse_args(argv)
    only = [said.only] if said.only else KINDS

    def client(service: str, region_name: str | None = None, **config: Any) -> Any:
        return boto3.client(service, region_name=region_name, config=Config(**config))

    reaper = Reaper(client, dry_run=said.dry_run, only=only, clusters=said.cluster or ())
    report = reaper.reap(said.region or [None], datetime.now(timezone.utc))
    print(report)
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())

"""The reaper's hands: list what carries our tag in each region, ask, decide, end; and tell all of it in one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from airflow_transient.aws import launcher
from airflow_transient.aws.found import region_of
from airflow_transient.aws.launcher import ClientFactory
from airflow_transient.aws.reaper import ec2, ecs, groups
from airflow_transient.aws.reaper.one_pass import Ask, Pass
from airflow_transient.aws.reaper.report import Line, Report
from airflow_transient.errors import TransientError

__all__ = ["KINDS", "Ask", "Line", "Reaper", "Report"]

_SWEEPS: dict[str, Callable[[Any, Pass], Report]] = {"ec2": ec2.sweep, "ecs": ecs.sweep}
#: What a reaper may be told to look at only: instances, ECS tasks, Auto Scaling groups on loan.
KINDS = (*_SWEEPS, "asg")


class Reaper:
    """
    One pass over regions.

    :param client: makes boto3 clients, ``client("ec2", region_name=..., connect_timeout=5)``.
    :param ask: what Airflow says of owners, asked after AWS was listed; None where there is no Airflow to ask.
    :param deployment: whose launches are ours; None: nobody's, then only deadlines decide.
    :param only: which of KINDS to look at.
    :param clusters: ECS clusters by name, looked for in every region, or by ARN; none: every cluster.
    """

    def __init__(
        self,
        client: ClientFactory,
        ask: Ask | None = None,
        deployment: str | None = None,
        dry_run: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        only: Collection[str] = KINDS,
        clusters: Iterable[str] = (),
    ) -> None:
        self._client = client
        self._ask = ask
        self._deployment = deployment
        self._dry_run = dry_run
        self._sleep = sleep
        self._only = tuple(kind for kind in KINDS if kind in only)
        self._clusters = tuple(dict.fromkeys(clusters))

    def reap(self, regions: Iterable[str | None], now: datetime) -> Report:
        """One pass; a region that fails is told and does not keep the others waiting. None: the client's own region."""
        one_pass = Pass(now, self._ask, self._deployment, self._dry_run, self._sleep, self._clusters)
        clients, reports = [], []
        everywhere = tuple(dict.fromkeys(regions))
        for region in everywhere:
            for kind in filter(_SWEEPS.get, self._only):
                try:
                    with launcher.said_plainly(f"a client for {kind.upper()} in {region or 'the default region'}"):
                        clients.append((kind, self._client(kind, region_name=region)))
                except TransientError as error:
                    reports.append(Report(unseen=(str(error),)))
        reports += [_SWEEPS[kind](client, one_pass) for kind, client in clients]
        if "asg" in self._only:
            reports += [groups.sweep(partial(self._client, region_name=region), one_pass) for region in everywhere]
        if "ecs" in self._only:
            reports.append(self._elsewhere({client.meta.region_name for kind, client in clients if kind == "ecs"}))
        return Report.joined(reports, self._dry_run)

    def _elsewhere(self, looked: Collection[str]) -> Report:
        """Clusters that were named and lie in a region where nobody looked."""
        return Report(
            unseen=tuple(
                f"{arn}: its region was not asked for"
                for arn in self._clusters
                if region_of(arn) not in (None, *looked)
            )
        )

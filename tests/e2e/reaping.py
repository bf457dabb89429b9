"""A place for the reaper to look at, and passes over it at moments that a test gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_transient.aws.reaper import Line, Reaper, Report
from airflow_transient.core.launch import Owner
from airflow_transient.core.reaping import Answer

OWNER = Owner("prod", "dag", "run", "task")


class Site:
    """A cloud, and the moment from which its test counts the minutes."""

    def __init__(self, cloud: Any) -> None:
        self.cloud = cloud
        self.began = datetime.now(timezone.utc)

    def client(self, service: str, region_name: str | None = None, **_: Any) -> Any:
        return self.cloud.client(service, region_name)

    def later(self, minutes: float) -> datetime:
        """Three minutes on, nothing launched here is young any more; an hour on, its deadline comes."""
        return self.began + timedelta(minutes=minutes)


@dataclass(frozen=True)
class Reap:
    """One pass of deployment `prod`; `answer` is what Airflow says of everybody."""

    site: Site

    def __call__(self, minutes: float, answer: Answer | None = None, regions: Any = (None,), **more: Any) -> Report:
        def ask(owners: Collection[Owner]) -> Mapping[Owner, Answer]:
            return dict.fromkeys(owners, answer) if answer else {}

        words = {"client": self.site.client, "ask": ask, "deployment": "prod", "sleep": lambda seconds: None, **more}
        report = Reaper(**words).reap(regions, self.site.later(minutes))
        print(report)
        return report


def line_of(report: Report, member: str) -> Line:
    (line,) = [line for line in report.lines if line.id == member]
    return line

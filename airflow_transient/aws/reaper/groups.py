"""One region's Auto Scaling groups that are on loan longer than any launch takes: given back, by their flags alone.

Most who run a reaper borrow no group, may list none, and may have no route to Auto Scaling: that is a note and no
failure of a pass, and costs it no more than one short attempt. Machines are none of this: they carry our tags, and are
looked at as instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from airflow_transient.aws.asg_desk import Desk
from airflow_transient.aws.asg_hands import Hands
from airflow_transient.aws.asg_return import give_back
from airflow_transient.aws.launcher import UNREACHABLE, ClientFactory
from airflow_transient.aws.reaper.one_pass import Pass
from airflow_transient.aws.reaper.report import Line, Report
from airflow_transient.core.asg.group import Flag, Group
from airflow_transient.core.reaping import Act, Decision, clock
from airflow_transient.errors import AccessError, TransientError

#: Of the client that lists groups; botocore's own timeout is a minute, five times over.
BRIEFLY = {"connect_timeout": 5, "retries": {"mode": "standard", "total_max_attempts": 1}}


def sweep(client: ClientFactory, one_pass: Pass) -> Report:
    """
    :param client: makes clients for this region.
    """
    listing = Desk(partial(client, **BRIEFLY), one_pass.sleep, insist=False)
    where = "Auto Scaling"
    try:
        where = listing.region
        borrowed = [(group, flag) for group in listing.all() for flag in group.flags.values()]
    except TransientError as error:
        if isinstance(error, AccessError) or isinstance(error.__cause__, UNREACHABLE):
            return Report(notes=(f"{where}: a borrowed Auto Scaling group would not be given back: {error}",))
        return Report(unseen=(f"{where}: {error}",))
    hands = Hands(client, Desk(client, one_pass.sleep), one_pass.sleep, lambda: one_pass.now)
    return Report(tuple(_lines(hands, borrowed, one_pass)))


def _lines(hands: Hands, borrowed: list[tuple[Group, Flag]], one_pass: Pass) -> Iterator[Line]:
    for group, flag in borrowed:
        if flag.was is None or flag.others_from is None or one_pass.now < flag.others_from:
            continue
        until = clock(flag.others_from)
        decision = Decision(group.name, Act.GIVE_BACK, f"on loan for launch {flag.token} until {until}")
        failed = None
        if not one_pass.dry_run:
            try:
                give_back(hands, group.name, flag)
            except TransientError as error:
                failed = str(error)
        yield one_pass.line(hands.desk.region, decision, failed)

"""For our tests and yours: a Launcher that needs no AWS. It passes the same contract as the real ones.

world = FakeLauncher()
launch = world.launch(world.prepare(spec, key, pool, now))
world.end(launch.ids[0], exit_code=3)
"""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_transient.core import requests
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey, draft_launch
from airflow_transient.core.requests import Request, Resolved
from airflow_transient.core.spec import Ec2Spec, Pool
from airflow_transient.core.verdict import Phase, Receipt, Sighting


class FakeLauncher:
    """
    Members that do nothing until a test says what happens to them.

    `refuse` holds the refusals that the next calls of `launch` meet, in order; `blind` makes every look fail;
    `room` is how many members one call gets at most; `calls` is the story: ("launch", token), ("stop", ids).
    """

    kind = "ec2"

    def __init__(self, region: str = "eu-west-1") -> None:
        self.region = region
        self.members: dict[str, Sighting] = {}
        self.refuse: list[Exception] = []
        self.blind = False
        self.room = 1000
        self.calls: list[tuple[str, Any]] = []
        self._asked: dict[str, tuple[Request, Launch]] = {}

    def prepare(
        self, spec: Ec2Spec, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None
    ) -> Request:
        draft = draft_launch(self.kind, spec, key, self.region, now, so_far or "nonce")
        arguments = requests.run_instances(spec, key, Resolved(spec.image.id), pool, draft)
        return Request(draft, pool, arguments, base64.b64encode(b"#!/bin/bash\n").decode())

    def adopt(self, request: Request) -> Launch | None:
        asked = self._asked.get(request.arguments["ClientToken"])
        return asked[1] if asked else None

    def launch(self, request: Request, again: bool = False) -> Launch:
        token = request.arguments["ClientToken"]
        self.calls.append(("launch", token))
        if token in self._asked:
            return self._asked[token][1]
        if self.refuse:
            raise self.refuse.pop(0)
        count, first = min(request.arguments["MaxCount"], self.room), len(self.members) + 1
        came = tuple(f"i-{first + n:017x}" for n in range(count))
        launch = request.launch.with_ids(request.launch.ids + came)
        for member in came:
            self.members[member] = Sighting(
                member,
                Phase.RUNNING,
                state="running",
                launched=launch.requested_at,
                instance_type=request.pool.instance_type,
            )
        self._asked[token] = request, launch
        return launch

    def observe(self, launch: Launch, now: datetime) -> tuple[Sighting, ...]:
        unseen = "the network is down" if self.blind else "EC2 does not know it (yet)"
        known = {} if self.blind else self.members
        return tuple(known.get(m, Sighting(m, Phase.UNKNOWN, note=unseen, absent=not self.blind)) for m in launch.ids)

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        self.calls.append(("stop", launch.ids))
        for member in launch.ids:
            seen = self.members.get(member)
            if seen and seen.phase is not Phase.ENDED:
                by_api = {"reason": "Client.UserInitiatedShutdown", "stopped_by": why}
                self._change(member, phase=Phase.ENDED, state="terminated", **by_api)
            elif seen:
                self._change(member, state="terminated")

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return ("--- the job's last lines:", f"the log of {member}")

    # --- what a test does to a member

    def end(self, member: str, exit_code: int = 0, at: datetime | None = None, **receipt: Any) -> None:
        """The job ended and the machine shut itself down."""
        told = Receipt("nonce", member, "end", exit_code=exit_code, cause="exit", ended=at, channel="bucket")
        self._change(
            member,
            phase=Phase.ENDED,
            state="terminated",
            reason="Client.InstanceInitiatedShutdown",
            ended=at,
            receipt=replace(told, **receipt),
        )

    def take_back(
        self, member: str, reason: str = "Server.SpotInstanceTermination", at: datetime | None = None
    ) -> None:
        """AWS took the machine, and the job left nothing."""
        self._change(member, phase=Phase.ENDED, state="terminated", reason=reason, ended=at)

    def forget(self, member: str) -> None:
        """EC2 shows an ended instance for about an hour."""
        del self.members[member]

    def running(self) -> tuple[str, ...]:
        return tuple(m for m, seen in self.members.items() if seen.phase is not Phase.ENDED)

    def _change(self, member: str, **what: Any) -> None:
        self.members[member] = replace(self.members[member], **what)

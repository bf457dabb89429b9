"""For our tests and yours: Launchers that need no AWS. They pass the same contract as the real ones.

world = FakeLauncher()
launch = world.launch(world.prepare(spec, key, pool, now))
world.end(launch.ids[0], exit_code=3)
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.aws.ecs import TOKEN_LIFE
from airflow_transient.aws.launcher import Refused, Stop
from airflow_transient.core.asg import requests as asg
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2 import requests as ec2
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.receipts import Receipt
from airflow_transient.core.ec2.requests import Resolved
from airflow_transient.core.ecs import requests as ecs
from airflow_transient.core.ecs.judging import Container, EcsSighting
from airflow_transient.core.ecs.requests import Definition
from airflow_transient.core.fallback import Scope
from airflow_transient.core.judging import RULES
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey, draft_launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Phase


class FakeLauncher:
    """
    Instances that do nothing until a test says what happens to them.

    `refuse` holds the refusals that the next calls of `launch` meet, in order; `blind` makes every look fail;
    `room` is how many members one call gets at most; `calls` is the story: ("launch", token), ("stop", ids).
    """

    kind = "ec2"
    memory: timedelta | None = None

    def __init__(self, region: str = "eu-west-1") -> None:
        self.region = region
        self.members: dict[str, Any] = {}
        self.refuse: list[Exception] = []
        self.blind = False
        self.room = 1000
        self.calls: list[tuple[str, Any]] = []
        self.said: list[str] = []
        self._asked: dict[str, tuple[Request, Launch]] = {}

    def prepare(self, spec: Any, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None) -> Request:
        draft = ec2.draft(spec, key, self.region, now, so_far or "nonce")
        arguments = ec2.run_instances(spec, key, Resolved(spec.image.id), pool, draft)
        script = base64.b64encode(b"#!/bin/bash\n").decode()
        return Request(draft, pool, key.token, arguments["MaxCount"], arguments, script)

    def adopt(self, request: Request) -> Launch | None:
        asked = self._asked.get(request.token)
        return asked[1] if asked else None

    def launch(self, request: Request, again: bool = False) -> Launch:
        self.calls.append(("launch", request.token))
        if request.token in self._asked:
            return self._asked[request.token][1]
        if self.refuse:
            raise self.refuse.pop(0)
        came = tuple(self._name(len(self.members) + 1 + n) for n in range(min(request.wanted, self.room)))
        launch = request.launch.with_ids(request.launch.ids + came)
        self.members |= {member: self._born(member, launch, request.pool) for member in came}
        self._asked[request.token] = request, launch
        return self._answer(request, launch, len(came))

    def _answer(self, request: Request, launch: Launch, came: int) -> Launch:
        return launch

    def _name(self, number: int) -> str:
        return f"i-{number:017x}"

    def _born(self, member: str, launch: Launch, pool: Pool) -> Any:
        state = {"state": "running", "launched": launch.requested_at, "instance_type": pool.instance_type}
        return Ec2Sighting(member, Phase.RUNNING, **state)  # type: ignore[arg-type]

    def observe(self, launch: Launch, now: datetime) -> tuple[Any, ...]:
        unseen = "the network is down" if self.blind else "AWS does not know it (yet)"
        known = {} if self.blind else self.members
        nothing = RULES[self.kind].sighting
        return tuple(known.get(m, nothing(m, Phase.UNKNOWN, note=unseen, absent=not self.blind)) for m in launch.ids)

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Any, ...]]:
        return Looked([self.observe(launch, now) for launch in launches])

    def stop_all(self, stops: Sequence[Stop]) -> list[Exception | None]:
        return [self._stopped_or_why_not(*each) for each in stops]

    def _stopped_or_why_not(self, launch: Launch, why: str) -> Exception | None:
        try:
            self.stop(launch, why)
        except Exception as error:
            return error
        return None

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        self.calls.append(("stop", launch.ids))
        for member in launch.ids:
            seen = self.members.get(member)
            if seen and seen.phase is not Phase.ENDED:
                self._change(member, phase=Phase.ENDED, stopped_by=why, **self._stopped)
            elif seen and self.kind != "ecs":
                self._change(member, state="terminated")

    _stopped: dict[str, Any] = {"state": "terminated", "reason": "Client.UserInitiatedShutdown"}  # noqa: RUF012

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return ("--- the job's last lines:", f"the log of {member}")

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        def new_lines() -> list[str]:
            said, self.said = self.said, []
            return said

        return new_lines

    # --- what a test does to a member

    def end(self, member: str, exit_code: int | None = 0, at: datetime | None = None, **receipt: Any) -> None:
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
        """AWS shows what has ended for about an hour."""
        del self.members[member]

    def running(self) -> tuple[str, ...]:
        return tuple(m for m, seen in self.members.items() if seen.phase is not Phase.ENDED)

    def _change(self, member: str, **what: Any) -> None:
        self.members[member] = replace(self.members[member], **what)


class FakeEcsLauncher(FakeLauncher):
    """
    ECS tasks that do nothing until a test says what happens to them; one container, "main", unless `definition` says.

    Where there is `room` for a part only, the rest is refused as ECS does: in the same answer.
    """

    kind = "ecs"
    memory = TOKEN_LIFE
    _stopped: dict[str, Any] = {"state": "STOPPED", "reason": "UserInitiated"}  # noqa: RUF012

    def __init__(self, region: str = "eu-west-1") -> None:
        super().__init__(region)
        arn = f"arn:aws:ecs:{region}:123456789012:task-definition/work:1"
        self.definition = Definition(arn, "work", ("main",), ("main",), awsvpc=False)

    def prepare(self, spec: Any, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None) -> Request:
        ecs.check(spec, self.definition)
        terms = ecs.terms(spec, self.definition, so_far)
        draft = draft_launch(self.kind, spec, key, self.region, now, so_far or "nonce", ecs=terms)
        arguments = ecs.run_task(spec, key, self.definition, pool, draft)
        return Request(draft, pool, key.token, spec.count - len(draft.ids), arguments)

    def _answer(self, request: Request, launch: Launch, came: int) -> Launch:
        if came < request.wanted:
            words = f"{request.wanted - came} of {request.wanted}: RESOURCE:MEMORY"
            raise Refused(Scope.POOL, words, launch if came else None)
        return launch

    def _name(self, number: int) -> str:
        return f"{number:032x}"

    def _born(self, member: str, launch: Launch, pool: Pool) -> EcsSighting:
        asked = launch.requested_at
        return EcsSighting(
            member, Phase.RUNNING, "RUNNING", launched=asked, started=asked, pulled=asked, capacity=pool.market
        )

    def end(self, member: str, exit_code: int | None = 0, at: datetime | None = None, **what: Any) -> None:
        """Its essential container exited."""
        containers = tuple(Container(name, exit_code) for name in self.definition.containers)
        told = {"reason": "EssentialContainerExited", "detail": "Essential container in task exited", "ended": at}
        self._change(member, **{"phase": Phase.ENDED, "state": "STOPPED", "containers": containers, **told, **what})

    def take_back(self, member: str, reason: str = "SpotInterruption", at: datetime | None = None) -> None:
        """Its containers handled the signal and exited with 0."""
        self.end(member, 0, at, reason=reason, detail="Your Spot Task was interrupted.")

    def never_start(self, member: str, why: str, at: datetime | None = None) -> None:
        """AWS gave up before a container began."""
        self._change(
            member, phase=Phase.ENDED, state="STOPPED", reason="TaskFailedToStart", detail=why, started=None, ended=at
        )


class FakeGroupLauncher(FakeLauncher):
    """Machines that an Auto Scaling group has started and let go; of the group itself nothing is to be seen."""

    kind = "asg"

    def prepare(self, spec: Any, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None) -> Request:
        draft = asg.draft(spec, key, self.region, now, so_far or "nonce")
        return Request(draft, pool, key.token, spec.count - len(draft.ids), {"group": spec.group})

    def shut_down(self, member: str, at: datetime | None = None) -> None:
        """It shut itself down, and reported nothing."""
        reason = "Client.InstanceInitiatedShutdown"
        self._change(member, phase=Phase.ENDED, state="terminated", reason=reason, ended=at)

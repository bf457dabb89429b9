"""The written plan of a launch, and what the next try does with it.

The plan is kept in Airflow's task state store, which survives retries and crashes. It is written before the first
call, so that whoever comes next asks with the same token and the same bytes: asking twice starts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool

#: Airflow's REST API refuses larger values; the task's own path does not, so we do.
STORE_LIMIT = 64 * 1024


class State(str, Enum):
    DRAWN = "drawn"
    ASKED = "asked"
    PLACED = "placed"
    TOLD_SUCCEEDED = "told succeeded"
    TOLD_FAILED = "told failed"


class Move(str, Enum):
    """What a try does first."""

    LAUNCH = "launch"
    ASK_AGAIN = "ask again with the same token and bytes"
    ADOPT = "adopt what exists, and wait for it or tell how it ended"
    TELL_AGAIN = "tell the success again"
    LAUNCH_ANEW = "launch a new generation"
    STOP_AND_LAUNCH = "stop the old launch, then launch a new generation"


#: state -> (the next try of the same wish, the first try after a clear)
NEXT: dict[State, tuple[Move, Move]] = {
    State.DRAWN: (Move.LAUNCH, Move.STOP_AND_LAUNCH),
    State.ASKED: (Move.ASK_AGAIN, Move.STOP_AND_LAUNCH),
    State.PLACED: (Move.ADOPT, Move.STOP_AND_LAUNCH),
    State.TOLD_SUCCEEDED: (Move.TELL_AGAIN, Move.LAUNCH_ANEW),
    State.TOLD_FAILED: (Move.LAUNCH_ANEW, Move.LAUNCH_ANEW),
}


@dataclass(frozen=True)
class Refusal:
    """One pool that said no, and how much that speaks of."""

    pool: Pool
    scope: Scope
    words: str


@dataclass(frozen=True)
class Intent:
    """`max_tries` tells a clear from a crash: Airflow raises it when a person clears an ended task."""

    launch_id: str
    max_tries: int
    generation: int = 1
    attempt: int = 0
    state: State = State.DRAWN
    request: Request | None = None
    launch: Launch | None = None
    verdict: Mapping[str, Any] | None = None
    refusals: tuple[Refusal, ...] = ()
    resumed: int = 0

    def next_move(self, max_tries: int) -> Move:
        same, cleared = NEXT[self.state]
        return cleared if max_tries != self.max_tries else same

    def asking(self, request: Request) -> Intent:
        return replace(self, state=State.ASKED, request=request)

    def next_attempt(self) -> Intent:
        return replace(self, attempt=self.attempt + 1, request=None)

    def refused(self, refusal: Refusal) -> Intent:
        return replace(self, state=State.DRAWN, request=None, refusals=(*self.refusals, refusal))

    def placed(self, launch: Launch) -> Intent:
        """Members came. The request's bytes go: every viewer may read the store, and nobody needs to ask again."""
        return replace(self, state=State.DRAWN, request=None, launch=launch)

    def complete(self) -> Intent:
        return replace(self, state=State.PLACED)

    def told(self, verdict: Mapping[str, Any]) -> Intent:
        state = State.TOLD_SUCCEEDED if verdict["outcome"] == "succeeded" else State.TOLD_FAILED
        return replace(self, state=state, verdict=verdict if state is State.TOLD_SUCCEEDED else None)

    def slim(self) -> Intent:
        """Without what jobs handed back, where that is too much for the store: how it ended is kept."""
        if not self.verdict:
            return self
        note = {"result_error": "result unavailable: too large to be told twice"}
        members = [{k: v for k, v in m.items() if k != "result"} | note for m in self.verdict.get("members", ())]
        return replace(self, verdict={**self.verdict, "members": members, "result": None})

    def resuming(self) -> Intent:
        """Its trigger died, and it gets another one."""
        return replace(self, resumed=self.resumed + 1)

    def anew(self, max_tries: int) -> Intent:
        return Intent(self.launch_id, max_tries, generation=self.generation + 1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "launch_id": self.launch_id,
            "max_tries": self.max_tries,
            "generation": self.generation,
            "attempt": self.attempt,
            "state": self.state.value,
            "resumed": self.resumed,
            "request": self.request.to_dict() if self.request else None,
            "launch": self.launch.to_dict() if self.launch else None,
            "verdict": dict(self.verdict) if self.verdict else None,
            "refusals": [
                {
                    "pool": [r.pool.instance_type, r.pool.subnet_id, r.pool.market],
                    "scope": r.scope.value,
                    "words": r.words,
                }
                for r in self.refusals
            ],
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Intent:
        return cls(
            launch_id=said["launch_id"],
            max_tries=said["max_tries"],
            generation=said["generation"],
            attempt=said["attempt"],
            state=State(said["state"]),
            resumed=said.get("resumed", 0),
            request=Request.from_dict(said["request"]) if said.get("request") else None,
            launch=Launch.from_dict(said["launch"]) if said.get("launch") else None,
            verdict=said.get("verdict"),
            refusals=tuple(Refusal(Pool(*r["pool"]), Scope(r["scope"]), r["words"]) for r in said.get("refusals", ())),
        )

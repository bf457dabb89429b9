"""The written plan of a launch, and what the next try does with it.

The plan is kept in Airflow's task state store, which survives retries and crashes. It is written before the first
call, so that whoever comes next asks with the same token and the same bytes: asking twice starts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from airflow_transient.core.fallback import Scope
from airflow_transient.core.launch import Launch
from airflow_transient.core.requests import Request
from airflow_transient.core.shorthand import lengthened, shortened
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Member, Outcome

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
    """
    `max_tries` tells a clear from a crash: Airflow raises it when a person clears an ended task.

    Of a burst: how many were `wanted` when it was sized; the `pool` that took members last; those that have `ended`,
    written down before AWS forgets them, while `launch` holds what is still waited for; and how many `rounds` of
    replacements there were. `kept`: what one kind of launch writes down of its own, as JSON.
    """

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
    wanted: int | None = None
    pool: Pool | None = None
    ended: tuple[Member, ...] = ()
    rounds: int = 0
    kept: Mapping[str, Any] | None = None

    def next_move(self, max_tries: int) -> Move:
        same, cleared = NEXT[self.state]
        return cleared if max_tries != self.max_tries else same

    def asking(self, request: Request) -> Intent:
        return replace(self, state=State.ASKED, request=request)

    @property
    def asked(self) -> Request | None:
        """The request, told who of the same launch has ended: what they left is no answer to it."""
        return self.request and replace(self.request, over=tuple(m.id for m in self.ended))

    def next_attempt(self) -> Intent:
        return replace(self, attempt=self.attempt + 1, request=None)

    def refused(self, refusal: Refusal) -> Intent:
        return replace(self, state=State.DRAWN, request=None, refusals=(*self.refusals, refusal))

    def placed(self, launch: Launch, pool: Pool | None = None) -> Intent:
        """Members came. The request's bytes go: every viewer may read the store, and nobody needs to ask again."""
        return replace(self, state=State.DRAWN, request=None, launch=launch, pool=pool or self.pool)

    def complete(self) -> Intent:
        return replace(self, state=State.PLACED)

    def told(self, verdict: Mapping[str, Any]) -> Intent:
        state = State.TOLD_SUCCEEDED if verdict["outcome"] == "succeeded" else State.TOLD_FAILED
        return replace(self, state=state, verdict=verdict if state is State.TOLD_SUCCEEDED else None, ended=())

    def gone(self) -> Intent:
        """What was asked for cannot be found any more, and its end is past: the next try is a new generation."""
        return replace(self, state=State.TOLD_FAILED, request=None)

    def without(self, unaccounted: int) -> Intent:
        """So many fewer are launched; what is needed stays what it was."""
        return replace(self, wanted=None if self.wanted is None else self.wanted - unaccounted)

    def handed_on(self, members: Iterable[Member]) -> Intent:
        """These have ended; what is left of the launch is waited for. Each is written down once."""
        ids = {m.id: m for m in members}
        if not ids or self.launch is None:
            return self
        before = {m.id for m in self.ended}
        came = tuple(m for m in ids.values() if m.id not in before)
        successes = sum(m.outcome is Outcome.SUCCEEDED for m in came)
        others = sum(m.outcome is not Outcome.SUCCEEDED and m.missed is None for m in came)
        launch = self.launch.without(ids, successes, others)
        return replace(self, launch=launch, ended=(*self.ended, *came))

    @property
    def need(self) -> int | None:
        """How many of all members must succeed; None: every one."""
        if self.launch is None or self.launch.ecs is None:
            return None
        return self.launch.ecs.need + sum(m.outcome is Outcome.SUCCEEDED for m in self.ended)

    @property
    def to_place(self) -> int:
        """How many there should be now, of those wanted: with what still runs, without what has run to an end."""
        return (self.wanted or 0) - sum(m.missed is None for m in self.ended)

    def again(self, wanted: int, need: int | None, refusals: tuple[Refusal, ...] = ()) -> Intent:
        """One more round for what AWS never started or took back; `need` of all members must have succeeded then."""
        next_one = replace(self, state=State.DRAWN, wanted=wanted, refusals=refusals, rounds=self.rounds + 1)
        if self.launch is None or self.launch.ecs is None or need is None:
            return next_one
        before = sum(m.outcome is Outcome.SUCCEEDED for m in self.ended)
        terms = replace(self.launch.ecs, need=max(0, need - before), wanted=next_one.to_place)
        return replace(next_one, launch=replace(self.launch, ecs=terms))

    def grown(self, count: int) -> Intent:
        """So many more beside those that live."""
        live = len(self.launch.ids) if self.launch else 0
        over = sum(m.missed is None for m in self.ended)
        return replace(self, state=State.DRAWN, wanted=over + live + count, refusals=())

    def slim(self) -> Intent:
        """Without what jobs handed back, and without member by member, where that is too much for the store."""
        if not self.verdict:
            return self
        note = {"result_error": "result unavailable: too large to be told twice", "members": []}
        return replace(self, verdict={k: v for k, v in self.verdict.items() if k != "result"} | note)

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
            "wanted": self.wanted,
            "pool": _pool_words(self.pool) if self.pool else None,
            "ended": shortened(self.ended) if self.ended else None,
            "rounds": self.rounds,
            "kept": dict(self.kept) if self.kept else None,
            "request": self.request.to_dict() if self.request else None,
            "launch": self.launch.to_dict() if self.launch else None,
            "verdict": dict(self.verdict) if self.verdict else None,
            "refusals": [
                {"pool": _pool_words(r.pool), "scope": r.scope.value, "words": r.words} for r in self.refusals
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
            wanted=said.get("wanted"),
            pool=Pool(*said["pool"]) if said.get("pool") else None,
            ended=lengthened(said.get("ended")),
            rounds=said.get("rounds", 0),
            kept=said.get("kept"),
            refusals=tuple(Refusal(Pool(*r["pool"]), Scope(r["scope"]), r["words"]) for r in said.get("refusals", ())),
        )


def _pool_words(pool: Pool) -> list[str | None]:
    return [pool.instance_type, pool.subnet_id, pool.market]

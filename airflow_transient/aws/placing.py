"""Walk the pools until one takes the launch, writing down each step before it is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_transient.aws.launcher import Launcher, Refused
from airflow_transient.core.fallback import Scope, pools_left
from airflow_transient.core.intent import Intent, Refusal
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import AccessError, CapacityError, Lost, SpecError

#: A refusal of the request itself would be the same in every pool.
_FINAL = {Scope.SPEC: SpecError, Scope.ACCESS: AccessError}
#: Seconds before a place is asked again after a hiccup: so long, then twice as long.
AGAIN_AFTER = 5.0


@dataclass(frozen=True)
class Placing:
    """Whose launch it is, and how to `remember` an intent: the write that comes before every call."""

    owner: Owner
    try_number: int
    remember: Callable[[Intent], None]
    warn: Callable[[str], None]
    clock: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep

    def place(self, launcher: Launcher, spec: Any, intent: Intent) -> Launch:
        """
        All of it, placed; or, where a part is a beginning (`spec.in_parts`), what there was room for.

        Raises CapacityError when every pool has refused, naming each.
        """
        if intent.asked is not None:
            intent = self._ask_again(launcher, intent, intent.asked)
        while not (launch := intent.launch) or missing(spec, intent) > 0:
            if pools := pools_left(spec.pools(), [(r.pool, r.scope) for r in intent.refusals]):
                intent = self._try(launcher, spec, intent, pools[0])
            elif launch and launch.ids and spec.in_parts:
                self.warn(f"{_no_room(spec, intent)}; going on with what came")
                break
            else:
                raise CapacityError(_no_room(spec, intent))
        self.remember(intent.complete())
        return launch

    def _ask_again(self, launcher: Launcher, intent: Intent, request: Request) -> Intent:
        """Somebody may have asked before. What nobody has started by its boot_by is not started late."""
        now = self.clock()
        known = launcher.memory is None or now < request.launch.asked_at + launcher.memory
        if known and now < request.launch.boot_by:
            return self._ask(launcher, intent, request, again=True)
        launch = launcher.adopt(request)
        if not known and _came(launch, request) < request.wanted:
            return self._unaccounted(intent, request, launch)
        if launch:
            intent = intent.placed(launch, request.pool)
        else:
            intent = intent.refused(Refusal(request.pool, Scope.STALE, "asked long ago, and never started"))
        self.remember(intent)
        return intent

    def _unaccounted(self, intent: Intent, request: Request, launch: Launch | None) -> Intent:
        """What is not found may have run and be forgotten: it is not launched again, and never told as a success."""
        lack = request.wanted - _came(launch, request)
        words = f"launch {request.token}: nobody can say what became of {lack} of {request.wanted}, asked for long ago"
        if launch is None:
            self.remember(intent.gone())
            raise Lost(words)
        self.warn(words)
        intent = intent.placed(launch, request.pool).without(lack)
        self.remember(intent)
        return intent

    def _try(self, launcher: Launcher, spec: Any, intent: Intent, pool: Pool) -> Intent:
        intent = intent.next_attempt()
        key = LaunchKey(self.owner, intent.launch_id, intent.generation, intent.attempt, self.try_number)
        request = launcher.prepare(replace(spec, count=wanted(spec, intent)), key, pool, self.clock(), intent.launch)
        for words in request.warnings:
            self.warn(words)
        intent = intent.asking(request)
        self.remember(intent)
        return self._ask(launcher, intent, request)

    def _ask(self, launcher: Launcher, intent: Intent, request: Request, again: bool = False) -> Intent:
        request = intent.asked or request
        try:
            intent = intent.placed(launcher.launch(request, again), request.pool)
        except Refused as refusal:
            return self._refused(intent, request, refusal)
        self._some_came(request, intent)
        self.remember(intent)
        return intent

    def _refused(self, intent: Intent, request: Request, refusal: Refused) -> Intent:
        if refusal.came:
            intent = intent.placed(refusal.came, request.pool)
        intent = intent.refused(Refusal(request.pool, refusal.scope, str(refusal)))
        self.remember(intent)
        if refusal.scope in _FINAL:
            raise _FINAL[refusal.scope](f"AWS refused the launch: {refusal}") from refusal
        if refusal.scope is Scope.AGAIN:
            self.warn(f"{request.pool}: {refusal}; asking again")
            self.sleep(AGAIN_AFTER * sum(r.scope is Scope.AGAIN for r in intent.refusals))
        else:
            self.warn(f"no room for {request.pool}: {refusal}")
        return intent

    def _some_came(self, request: Request, intent: Intent) -> None:
        came = _came(intent.launch, request)
        if came < request.wanted:
            self.warn(f"{request.pool} had room for {came} of {request.wanted}; the rest is launched elsewhere")


def _came(launch: Launch | None, request: Request) -> int:
    return len(launch.ids) - len(request.launch.ids) if launch else 0


def wanted(spec: Any, intent: Intent) -> int:
    """How many there should be: what was written down wins, for it may have become less since the spec was made."""
    return int(spec.count) if intent.wanted is None else intent.to_place


def missing(spec: Any, intent: Intent) -> int:
    return wanted(spec, intent) - (len(intent.launch.ids) if intent.launch else 0)


def _no_room(spec: Any, intent: Intent) -> str:
    tried = "; ".join(f"{r.pool}: {r.words}" for r in intent.refusals)
    count = wanted(spec, intent)
    lack = f"{missing(spec, intent)} of {count} members" if count > 1 else "it"
    return f"launch {intent.launch_id}: no room for {lack} in any of {len(spec.pools())} pools: {tried}"

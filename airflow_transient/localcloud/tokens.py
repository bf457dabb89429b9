"""Client tokens: asking twice with one token starts once.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html; that a token whose instance has ended
answers IdempotentInstanceTerminated is not written there (boto/boto3#4406).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_transient.localcloud.errors import Refused

ENDED = {"shutting-down", "terminated"}
Scope = tuple[str, "str | None", str]  # region, zone or None, token


@dataclass(frozen=True)
class Asked:
    fingerprint: str
    reservation: Any


@dataclass
class ClientTokens:
    """What each token was used for; states_of tells the states of a reservation's instances now."""

    states_of: Callable[[Any], set[str]]
    _asked: dict[Scope, Asked] = field(default_factory=dict)

    def recall(self, scope: Scope, request: Mapping[str, Any]) -> Any | None:
        """The reservation this very request made before, None when it is new, Refused when it is neither."""
        before = self._asked.get(scope)
        if before is None:
            return None
        if before.fingerprint != _fingerprint(request):
            message = "The client token was used before with other parameters"
            raise Refused("IdempotentParameterMismatch", message)
        if self.states_of(before.reservation) & ENDED:
            message = f"The client token '{scope[2]}' was used to launch an instance that is terminated"
            raise Refused("IdempotentInstanceTerminated", message)
        return before.reservation

    def remember(self, scope: Scope, request: Mapping[str, Any], reservation: Any) -> None:
        self._asked[scope] = Asked(_fingerprint(request), reservation)


def _fingerprint(request: Mapping[str, Any]) -> str:
    asked = {name: value for name, value in request.items() if name not in ("ClientToken", "DryRun")}
    return json.dumps(asked, sort_keys=True, default=str)

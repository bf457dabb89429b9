"""After this refusal, what next: the same pool again, another pool, or give up.

`python -m airflow_transient.core.fallback` prints the table. The error's code decides; the HTTP status decides only for
codes that are not in the table (InsufficientInstanceCapacity is an HTTP 500 and a definite refusal).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from airflow_transient.core.spec import Pool


class Scope(str, Enum):
    """How much of the world a refusal speaks of."""

    POOL = "this type in this place"
    SUBNET = "this subnet"
    TYPE = "this instance type"
    MARKET = "this market (on-demand or spot)"
    SPEC = "the request itself: the author's move"
    ACCESS = "the credentials: an administrator's move"
    STALE = "nothing: it was asked too long ago to be started now"
    AGAIN = "a hiccup: the same place again, a little later"
    PACE = "too many calls: the same again, later"
    TOKEN_USED = "this token has launched before"
    UNCLEAR = "no clear answer: it may have been launched"


#: Codes that are a definite no, from EC2's error reference and from what Karpenter and github-aws-runners retry.
REFUSALS: dict[str, Scope] = {
    "InsufficientInstanceCapacity": Scope.POOL,
    "InsufficientCapacityOnHost": Scope.POOL,
    "InsufficientHostCapacity": Scope.POOL,
    "InsufficientReservedInstanceCapacity": Scope.POOL,
    "ReservationCapacityExceeded": Scope.POOL,
    "UnfulfillableCapacity": Scope.POOL,
    "SpotMaxPriceTooLow": Scope.POOL,
    "Unsupported": Scope.POOL,
    "UnsupportedOperation": Scope.POOL,
    "InsufficientFreeAddressesInSubnet": Scope.SUBNET,
    "InsufficientAddressCapacity": Scope.SUBNET,
    "MaxSpotInstanceCountExceeded": Scope.MARKET,
    "InstanceLimitExceeded": Scope.MARKET,
    "VcpuLimitExceeded": Scope.MARKET,
    "ResourceLimitExceeded": Scope.MARKET,
    "RequestLimitExceeded": Scope.PACE,
    "Throttling": Scope.PACE,
    "ThrottlingException": Scope.PACE,
    "RequestThrottled": Scope.PACE,
    "EC2ThrottledException": Scope.PACE,
    "IdempotentInstanceTerminated": Scope.TOKEN_USED,
    "IdempotentParameterMismatch": Scope.TOKEN_USED,
    "UnauthorizedOperation": Scope.ACCESS,
    "AccessDenied": Scope.ACCESS,
    "AccessDeniedException": Scope.ACCESS,
    "AuthFailure": Scope.ACCESS,
    "OptInRequired": Scope.ACCESS,
    "PendingVerification": Scope.ACCESS,
    "InvalidClientTokenId": Scope.ACCESS,
    "SignatureDoesNotMatch": Scope.ACCESS,
    "ExpiredToken": Scope.ACCESS,
    "RequestExpired": Scope.ACCESS,
    # What the JSON protocol calls EC2's ExpiredToken and its like (common errors, API reference).
    "UnrecognizedClientException": Scope.ACCESS,
    "ExpiredTokenException": Scope.ACCESS,
    "InvalidSignatureException": Scope.ACCESS,
    "MissingAuthenticationTokenException": Scope.ACCESS,
    "TooManyRequestsException": Scope.PACE,
    "RequestTimeoutException": Scope.UNCLEAR,
}

#: Refusals of a call and not of what it asks for: made before AWS looks at the token, so an earlier call may have come.
CALL_ITSELF = (Scope.SPEC, Scope.ACCESS)


def scope_of(code: str | None, status: int | None) -> Scope:
    """What a refusal speaks of. No code and no status: the answer never came."""
    if code in REFUSALS:
        return REFUSALS[code]
    if status is not None and 400 <= status < 500:
        return Scope.SPEC
    return Scope.UNCLEAR


#: So often a place is asked again after a hiccup; then it counts as a place without room.
HICCUPS = 3


def pools_left(pools: Iterable[Pool], refused: Iterable[tuple[Pool, Scope]]) -> tuple[Pool, ...]:
    """The pools that no refusal so far speaks of, in the author's order."""
    refused = tuple(refused)
    hiccups = Counter(pool for pool, scope in refused if scope is Scope.AGAIN)
    firm = [(pool, scope) for pool, scope in refused if scope is not Scope.AGAIN]
    return tuple(p for p in pools if hiccups[p] < HICCUPS and not any(_speaks_of(scope, no, p) for no, scope in firm))


def _speaks_of(scope: Scope, refused: Pool, pool: Pool) -> bool:
    return {
        Scope.SUBNET: refused.subnet_id == pool.subnet_id,
        Scope.TYPE: refused.instance_type == pool.instance_type,
        Scope.MARKET: refused.market == pool.market,
        Scope.STALE: False,
    }.get(scope, refused == pool)


if __name__ == "__main__":
    for code, scope in REFUSALS.items():
        print(f"{code:40} {scope.value}")

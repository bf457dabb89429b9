"""What ECS says when it does not start a task, or not there, or gives up: and how much of the world that speaks of.

From AWS's pages on RunTask's failures and on stopped tasks, and from what other systems retry; the first line that
matches decides. `python -m airflow_transient.core.ecs.failures` prints the tables.
"""

from __future__ import annotations

import re
from typing import TypeVar

from airflow_transient.core.fallback import REFUSALS, Scope

T = TypeVar("T")

#: `failures[].reason` of an answer to RunTask: a definite no for so many tasks.
NOT_PLACED: tuple[tuple[str, Scope], ...] = (
    (r"^AGENT|^ECS gave no reason", Scope.AGAIN),
    (r"^RESOURCE:", Scope.POOL),
    (r"Capacity is unavailable", Scope.POOL),
    (r"limit on the number of (tasks|vCPUs)", Scope.POOL),
    (r"Throttling|Rate exceeded", Scope.AGAIN),
    (r"^(LOCATION|ATTRIBUTE|MISSING|INACTIVE)|MemberOf|memberOf|No Container Instances", Scope.SPEC),
)

#: What an error's message says where its code does not; looked at before the code.
REFUSED: tuple[tuple[str, Scope], ...] = (
    # EC2's throttling, wrapped in InvalidParameterException (dagster#33439).
    (r"Throttling|Rate exceeded|Request ?[lL]imit ?[eE]xceeded|Too many concurrent", Scope.PACE),
    # "Tasks provisioning capacity limit exceeded.": those of this burst, being placed.
    (r"(?i)provisioning", Scope.PACE),
    (r"Capacity is unavailable|limit on the number of (tasks|vCPUs)", Scope.POOL),
)
CODES: dict[str, Scope] = {
    **REFUSALS,
    "LimitExceededException": Scope.POOL,
    "ConflictException": Scope.TOKEN_USED,
    "BlockedException": Scope.ACCESS,
    "ServerException": Scope.UNCLEAR,
}

#: `stoppedReason` of a task that never started.
NEVER_STARTED: tuple[tuple[str, Scope | None], ...] = (
    # Pulls first, for an image may be called anything; and hiccups first of those: "…/manifests/latest: i/o timeout".
    (r"CannotPull.*(i/o timeout|timeout|EOF|invalid argument|toomanyrequests|connection reset)", Scope.AGAIN),
    (r"CannotPull", None),
    (r"Capacity is unavailable|RESOURCE:|capacity", Scope.POOL),
    (r"Timeout waiting for (network interface|EphemeralStorage) provisioning", Scope.AGAIN),
    (r"InsufficientFreeAddressesInSubnet", Scope.AGAIN),
    (r"Task provisioning failed|[Uu]nexpected EC2 error.*AuthFailure|Throttling|Rate exceeded", Scope.AGAIN),
)

#: What to do about a reason that another try would not cure.
FIXES: tuple[tuple[str, str], ...] = (
    (r"^LOCATION", "no container instance is in a zone that the placement asks for"),
    (
        r"^ATTRIBUTE",
        "no container instance has the attributes that the task definition requires: see its agent's version",
    ),
    (r"emberOf", "no container instance fits the placement constraint"),
    (
        r"No Container Instances",
        "the cluster has no instances: give launch_type='FARGATE' or capacity_provider_strategies",
    ),
    (r"CannotPull.*(unauthorized|denied|no basic auth)", "the execution role must be allowed to pull the image"),
    (r"CannotPull.*timeout", "is there a way from its subnet to the registry?"),
    (r"CannotPull", "check the image's name and tag"),
    (r"OutOfMemory", "raise the memory of the container or the task"),
    (r"secrets|ssm|Secrets Manager", "the execution role must be allowed to read the secret"),
    (r"awslogs|log group", "create the log group, or set awslogs-create-group"),
)


def scope_of_failure(reason: str) -> Scope:
    """Of one entry of `failures`. What is not in the table is taken for a lack of room: another pool may have it."""
    return _first(NOT_PLACED, reason) or Scope.POOL


def scope_of_error(code: str | None, message: str, status: int | None) -> Scope:
    """Of an error that RunTask answered with. No code and no status: the answer never came."""
    if code is not None and (found := _first(REFUSED, message)):
        return found
    if code in CODES:
        return CODES[code]
    return Scope.SPEC if status is not None and 400 <= status < 500 else Scope.UNCLEAR


def scope_of_start(reason: str, containers: int) -> Scope | None:
    """Of a task that ended before it began; None: the author's move. Without containers AWS gave up placing it."""
    for pattern, scope in NEVER_STARTED:
        if re.search(pattern, reason):
            return scope
    return None if containers else Scope.POOL


def fix_for(reason: str) -> str:
    """What would help, with a dash in front; nothing where nobody knows."""
    fix = _first(FIXES, reason)
    return f" - {fix}" if fix else ""


def _first(table: tuple[tuple[str, T], ...], text: str) -> T | None:
    return next((what for pattern, what in table if re.search(pattern, text)), None)


if __name__ == "__main__":
    for title, table in (("failures[]", NOT_PLACED), ("errors", REFUSED), ("stoppedReason", NEVER_STARTED)):
        for pattern, scope in table:
            print(f"{title:14} {pattern:95} {scope.value if scope else 'the task itself: the author has to act'}")

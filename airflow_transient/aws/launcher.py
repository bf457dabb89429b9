"""What every launcher can do, and what AWS's errors mean: error codes become our tree of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
)
from botocore.parsers import ResponseParserError

from airflow_transient.core.cadence import Looked
from airflow_transient.core.fallback import Scope, scope_of
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Sighting
from airflow_transient.errors import AccessError, LaunchError, SpecError, TransientError

#: What a call to AWS may raise: an error it answered with, one of botocore's own, or an answer that is none of AWS's,
#: such as a proxy's page.
FAILURES = (ClientError, BotoCoreError, ResponseParserError)
#: Nobody was there: as in a network without a route to this service.
UNREACHABLE = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)

#: client("ec2") or client("s3", region_name="eu-west-1", signature_version="s3v4"): a boto3 client of one connection.
ClientFactory = Callable[..., Any]


#: A launch that is to end, and why.
Stop = tuple[Launch, str]


class Launcher(Protocol):
    """
    Nine verbs over one kind of compute. Every implementation passes tests/contract; `testing.FakeLauncher` too.

    `memory`: so long after it was asked for AWS surely tells what a request has started, by token or by list; None: as
    long as anybody asks.
    """

    memory: timedelta | None

    def prepare(self, spec: Any, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None) -> Request:
        """Resolve one attempt to launch what `so_far` misses. Starts nothing. Raises SpecError or AccessError."""

    def launch(self, request: Request, again: bool = False) -> Launch:
        """Ask for it; asking twice starts once. The launch so far with what came: all, or what there is room for.

        Raises Refused where that is a definite no to all of it or to a part; any other failure leaves it unknown.

        :param again: whether an earlier process may have asked already.
        """

    def adopt(self, request: Request) -> Launch | None:
        """What this request has started, whoever asked; None where nothing is to be found."""

    def observe(self, launch: Launch, now: datetime) -> tuple[Sighting, ...]:
        """Look once at every member. Never raises for what AWS answers: a failed look is Phase.UNKNOWN."""

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Sighting, ...]]:
        """`observe` for many launches of one region (and cluster) in as few calls as AWS takes. A failed call says
        nothing of the members that it did not ask for, and an unknown member nothing of the others."""

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        """End every member on purpose, leaving a mark that says why. Stopping twice is fine; the first mark stays."""

    def stop_all(self, stops: Sequence[Stop]) -> Sequence[Exception | None]:
        """`stop` for many launches of one region in as few calls as AWS takes; for each what kept it from that, or
        None. An unknown member keeps no other from its end."""

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        """What a person wants to read after a failure: the last lines of log and console. Best effort, never raises."""

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        """A reader of what the job says while it runs: each call gives the new lines. Never raises."""


class Refused(LaunchError):
    """A definite no; `came`: the launch so far, where a part of what was asked for did come."""

    def __init__(self, scope: Scope, words: str, came: Launch | None = None) -> None:
        super().__init__(words)
        self.scope = scope
        self.came = came


def code_of(error: Exception) -> str | None:
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def status_of(error: Exception) -> int | None:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(error, ClientError) else None


def words_of(error: Exception) -> str:
    """One line, without the request's noise; EC2's encoded authorisation message is left out."""
    if not isinstance(error, ClientError):
        return f"{type(error).__name__}: {error}".split("\n")[0][:300]
    said = error.response.get("Error", {})
    return f"{said.get('Code')}: {str(said.get('Message', '')).split(' Encoded authorization')[0]}"


#: Raised before anything was sent.
_NEVER_SENT: dict[type[BotoCoreError], str] = {
    NoCredentialsError: "no AWS credentials: give the connection a key, or the worker a role",
    PartialCredentialsError: "half of the AWS credentials is missing",
    NoRegionError: "no AWS region: give one (region_name, --region), or set it in the connection",
}


def scope_of_error(error: Exception) -> Scope:
    if isinstance(error, tuple(_NEVER_SENT)):
        return Scope.ACCESS
    if isinstance(error, ParamValidationError | TransientError):
        return Scope.SPEC
    return scope_of(code_of(error), status_of(error))


def looked(answers: Sequence[tuple[Any, ...]], errors: Iterable[Scope]) -> Looked[tuple[Any, ...]]:
    """A look in which these errors came up."""
    scopes = set(errors)
    return Looked(answers, slow=Scope.PACE in scopes, denied=Scope.ACCESS in scopes)


X = TypeVar("X")
Y = TypeVar("Y")


def side_by_side(act: Callable[[X], Y], each: Sequence[X], at_once: int) -> list[Y]:
    """As `map`; several on their way at once. botocore keeps ten connections a client."""
    if len(each) < 2:
        return [act(one) for one in each]
    with ThreadPoolExecutor(min(at_once, len(each))) as pool:
        return list(pool.map(act, each))


@contextmanager
def said_plainly(action: str) -> Iterator[None]:
    """Turn what AWS answers to a question of `prepare` into our tree. `action` is the IAM action it needs."""
    try:
        yield
    except FAILURES as error:
        raise in_our_tree(action, error) from error


@contextmanager
def bucket_said(action: str, bucket: str) -> Iterator[None]:
    """As said_plainly; that there is no such bucket is said by its name."""
    with said_plainly(f"{action} on {bucket}"):
        try:
            yield
        except ClientError as error:
            if code_of(error) != "NoSuchBucket":
                raise
            raise SpecError(f"there is no bucket {bucket!r}: check its name, and aws_conn_id") from error


def in_our_tree(action: str, error: Exception) -> TransientError:
    """A failure of a call as one of our errors, which says whose move is next."""
    if isinstance(error, tuple(_NEVER_SENT)):
        return AccessError(_NEVER_SENT[type(error)])
    if isinstance(error, ParamValidationError):
        return SpecError(f"{action}: {error}")
    if not isinstance(error, ClientError):
        return LaunchError(f"{action}: {words_of(error)}")
    scope = scope_of_error(error)
    if scope is Scope.ACCESS:
        return AccessError(f"not allowed: {action} is needed ({words_of(error)})")
    return (SpecError if scope is Scope.SPEC else LaunchError)(f"{action}: {words_of(error)}")


def first_of(errors: Iterable[Exception | None]) -> Exception | None:
    return next((error for error in errors if error is not None), None)


def raise_first(errors: Iterable[Exception | None]) -> None:
    if error := first_of(errors):
        raise error

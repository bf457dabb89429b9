"""Instances that end themselves: ask for them, look at them, end them."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow_transient.aws import egress, launcher, pacing
from airflow_transient.aws.ec2_leavings import Leavings, box_of
from airflow_transient.aws.ec2_looks import Looks, describe
from airflow_transient.aws.ec2_stops import Stops
from airflow_transient.aws.launcher import FAILURES, ClientFactory, Refused, Stop, words_of
from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.aws.resolve import resolve
from airflow_transient.core.cadence import Looked
from airflow_transient.core.ec2 import bootscript, requests
from airflow_transient.core.ec2.bootscript import Boot, ReportForm
from airflow_transient.core.ec2.judging import Ec2Sighting
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.fallback import CALL_ITSELF, Scope
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey
from airflow_transient.core.requests import Request
from airflow_transient.core.spec import Pool
from airflow_transient.errors import LaunchError, Lost, TransientError

#: Seconds before the same request is sent again after no answer, and after "too many". An account has two RunInstances
#: a second, whoever asks: two hundred tasks at once are through after 100 s.
ASK_AGAIN = (1.0, 3.0, 8.0)
TOO_MANY = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0)
#: How long the credentials that sign the form will last: at least as long as asked, not that long, or nobody knows.
SigningLife = Callable[[float], "bool | None"]


class Ec2Launcher:
    """The Launcher of EC2. `client` makes boto3 clients, `signing_life` tells how long their credentials last."""

    kind = "ec2"
    memory: timedelta | None = None

    def __init__(
        self,
        client: ClientFactory,
        signing_life: SigningLife = lambda seconds: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._left = Leavings(client)
        self._looks = Looks(client, self._left)
        self._stops = Stops(client, self._looks, sleep)
        self._signing_life = signing_life
        self._sleep = sleep

    # --- ask

    def prepare(
        self, spec: Ec2Spec, key: LaunchKey, pool: Pool, now: datetime, so_far: Launch | None = None
    ) -> Request:
        region = self._region()
        resolved = resolve(self._client, spec)
        draft = requests.draft(spec, key, region, now, so_far or secrets.token_hex(8))
        arguments = requests.run_instances(spec, key, resolved, pool, draft)
        user_data, reporting = self.boot_data(spec, key, draft)
        told = ("the launch template's user data is replaced by the boot script",) * resolved.replaces_user_data
        warnings = told + reporting + egress.warning(self._client, spec, pool)
        return Request(draft, pool, key.token, arguments["MaxCount"], arguments, user_data, warnings)

    def boot_data(self, spec: Ec2Spec, key: LaunchKey, draft: Launch) -> tuple[str, tuple[str, ...]]:
        """User data in base64, and what to warn of; the way that reports will go has been tried."""
        box = box_of(self._client, draft)
        form = box.form(spec.lifetime) if box else None
        data = self._user_data(spec, Boot(draft.token, draft.nonce, draft.region, form, len(draft.ids)), box)
        if box and form:
            box.preflight(form, {**draft.to_dict(), "owner": str(key.owner)})
        return base64.b64encode(data).decode(), self._reporting_warnings(spec, form)

    def _region(self) -> str:
        with launcher.said_plainly("a client for EC2"):
            region: str = self._client("ec2").meta.region_name
        return region

    def _user_data(self, spec: Ec2Spec, boot: Boot, box: ReceiptBox | None) -> bytes:
        script = bootscript.boot_script(spec, boot)
        if data := bootscript.user_data(script):
            return data
        if box is None:
            raise bootscript.too_long(script)
        stub = bootscript.stub_script(spec, boot, box.keep_script(script, spec.lifetime))
        return stub.encode()

    def _reporting_warnings(self, spec: Ec2Spec, form: ReportForm | None) -> tuple[str, ...]:
        if form is None:
            return ("no `results` given: the console is the only channel, it keeps 64 KB and no `result`",)
        life = self._signing_life(spec.lifetime.total_seconds())
        words = {
            False: "the credentials that signed the receipt form end before the deadline",
            None: "nobody can say how long the credentials that signed the receipt form will last",
        }
        if life is True or (life is None and not _temporary(form)):
            return ()
        return (f"{words[life]}: after that the console and the instance's own role are the channels",)

    def launch(self, request: Request, again: bool = False) -> Launch:
        """The same bytes, again after an unclear answer: one token starts once.

        After an unclear answer, ours or an earlier try's (`again`), a refusal of the call itself (no permission,
        expired request) says nothing about what the first asking did: it stays asked for, and is looked up by token.
        """
        # Ours alone to ask again: a retry of botocore's would be unseen by the buckets.
        ec2 = self._client("ec2", retries={"mode": "standard", "total_max_attempts": 1})
        no_answer, too_many = iter(ASK_AGAIN), iter(TOO_MANY)
        while True:
            try:
                return _joined(request, _run(ec2, request))
            except (*FAILURES, TransientError) as error:
                last, scope = error, launcher.scope_of_error(error)
            if scope is Scope.TOKEN_USED:
                return self._used(request)
            if scope in CALL_ITSELF and again:
                break
            if scope not in (Scope.UNCLEAR, Scope.PACE):
                raise Refused(scope, words_of(last)) from last
            again = again or scope is Scope.UNCLEAR
            pause = next(too_many if scope is Scope.PACE else no_answer, None)
            if pause is None:
                break
            self._sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        if not again:  # throttled without end, and surely nothing started
            raise Refused(Scope.AGAIN, words_of(last)) from last
        if launch := self.adopt(request):
            return launch
        raise LaunchError(f"launch {request.token}: EC2 gave no clear answer: {words_of(last)}") from last

    def adopt(self, request: Request) -> Launch | None:
        """By the token, in every state EC2 still shows; else by the receipts. Raises LaunchError without an answer."""
        token = [{"Name": "client-token", "Values": [request.token]}]
        for pause in (*ASK_AGAIN, None):
            with launcher.said_plainly("ec2:DescribeInstances"):
                if found := list(describe(self._client("ec2"), token)):
                    return _joined(request, found)
            if pause is not None:
                self._sleep(pause)
        box, known = box_of(self._client, request.launch), request.launch.ids
        # All attempts of a launch leave their receipts in one place.
        others = {*known, *request.over}
        ids = tuple(m for m in box.members() if m not in others) if box else ()
        return request.launch.with_ids(known + ids) if ids else None

    def _used(self, request: Request) -> Launch:
        """This token has launched before, and is over or was asked with other words: find it, never launch."""
        if launch := self.adopt(request):
            return launch
        raise Lost(f"launch {request.token} has run before, and EC2 has forgotten it: no receipt is left")

    # --- look

    def observe(self, launch: Launch, now: datetime) -> tuple[Ec2Sighting, ...]:
        return self._looks.observe(launch, now)

    def observe_all(self, launches: Sequence[Launch], now: datetime) -> Looked[tuple[Ec2Sighting, ...]]:
        return self._looks.observe_all(launches, now)

    def instances(self, ids: tuple[str, ...]) -> Iterable[dict[str, Any]]:
        """As EC2 tells them. Raises what the call raises."""
        return self._looks.instances(ids)

    def explain(self, launch: Launch, member: str) -> tuple[str, ...]:
        return self._left.explain(launch, member)

    def follow(self, launch: Launch) -> Callable[[], list[str]]:
        """A machine's log is in its receipts once it has ended; until then there is nothing to read."""
        return list

    # --- end

    def stop(self, launch: Launch, why: str = BY_REQUEST) -> None:
        launcher.raise_first(self.stop_all([(launch, why)]))

    def stop_all(self, stops: Sequence[Stop]) -> list[Exception | None]:
        return self._stops(stops)


def _run(ec2: Any, request: Request) -> list[dict[str, Any]]:
    with pacing.paced(ec2, "launches in EC2", launcher.scope_of_error, also={"instances launched": request.wanted}):
        came: list[dict[str, Any]] = ec2.run_instances(**requests.call(request))["Instances"]
    return came


def _joined(request: Request, instances: list[dict[str, Any]]) -> Launch:
    """The launch so far with the members of one more attempt, in the order of their index."""
    came = sorted(instances, key=lambda i: i.get("AmiLaunchIndex", 0))
    return request.launch.with_ids(request.launch.ids + tuple(i["InstanceId"] for i in came))


def _temporary(form: ReportForm) -> bool:
    return any(name.lower() == "x-amz-security-token" for name in form.fields)

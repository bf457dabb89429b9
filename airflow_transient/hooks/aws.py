"""From an Airflow connection to boto3 clients and launchers: the only place that turns an id into a client."""

from __future__ import annotations

import logging
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_transient.errors import SpecError

if TYPE_CHECKING:
    from airflow_transient.aws.launcher import Launcher

DEFAULT_CONN_ID = "aws_default"
#: Services whose calls we repeat ourselves.
ASKED_AGAIN = ("ec2", "ecs", "sqs", "logs", "autoscaling")

#: botocore's own are a minute each and five tries: where nobody answers, a look would stand still for that long.
PATIENCE = {"connect_timeout": 10, "read_timeout": 30, "retries": {"mode": "standard", "total_max_attempts": 3}}

#: Seconds. A wait may outlive its credentials; a client of assumed roles renews its own, one of static keys does not.
CLIENT_LIFE = 3600.0


class TransientHook:
    """
    Clients and launchers of one AWS connection.

    :param aws_conn_id: an Airflow connection of type ``aws``. ``None``, or ``aws_default`` where no such connection
        exists, means boto3's own chain: environment, profile, role. Any other id must exist, else SpecError.
    :param region_name: overrides the connection's region.
    """

    def __init__(self, aws_conn_id: str | None = DEFAULT_CONN_ID, region_name: str | None = None) -> None:
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self._clients: dict[str, tuple[float, Any]] = {}
        self._checked = False
        self._making = threading.RLock()  # one client for a key, however many threads ask at once

    def client(self, service: str, region_name: str | None = None, **config: Any) -> Any:
        """
        A boto3 client, kept an hour. `config` is merged onto the connection's own: its proxies and timeouts stay, and
        where it says nothing of how long to wait for an answer, we do.
        """
        key = repr((service, region_name, sorted(config.items(), key=str)))
        with self._making:
            made, client = self._clients.get(key, (0.0, None))
            if client is None or time.monotonic() - made > CLIENT_LIFE:
                client = self._make(service, region_name, config)
                self._clients[key] = time.monotonic(), client
        return client

    def renew(self) -> None:
        """Make clients anew, from the connection as it is now: a key may have been rotated."""
        with self._making:
            self._clients, self._checked = {}, False

    def _make(self, service: str, region_name: str | None, config: dict[str, Any]) -> Any:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from botocore.config import Config

        from airflow_transient.aws.brief import can_be_brief

        self._check_connection()
        hook: Any = AwsBaseHook(aws_conn_id=self.aws_conn_id, client_type=service, region_name=self.region_name)
        own = Config(**PATIENCE).merge(hook.config or Config())
        if "s3" in config:
            config = {**config, "s3": {**config["s3"], **(own.s3 or {})}}
        if service in ASKED_AGAIN:
            # What fails is asked again by us, with the same bytes or at the next look; botocore's retries are unseen.
            config = {"retries": {"mode": "standard", "total_max_attempts": 2}, **config}
        whole = own.merge(Config(**config))
        return can_be_brief(hook.get_client_type(region_name=region_name or self.region_name, config=whole))

    def _check_connection(self) -> None:
        """The provider goes on with empty credentials where a connection is unknown; a typo should not."""
        if self._checked or self.aws_conn_id in (None, DEFAULT_CONN_ID):
            return
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowException

        try:
            BaseHook.get_connection(str(self.aws_conn_id))
        except AirflowException as error:
            raise SpecError(f"aws_conn_id: there is no connection {self.aws_conn_id!r}") from error
        self._checked = True

    def signing_life(self, seconds: float) -> bool | None:
        """Whether the credentials last that long; None where nobody can say (a session token from the environment)."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        hook: Any = AwsBaseHook(aws_conn_id=self.aws_conn_id, client_type="s3", region_name=self.region_name)
        credentials = hook.get_session().get_credentials()
        if hasattr(credentials, "refresh_needed"):
            return not credentials.refresh_needed(refresh_in=seconds)
        return None if getattr(credentials, "token", None) else True

    def launcher(self, kind: str) -> Launcher:
        """The launcher of one kind of compute."""
        from airflow_transient.aws.ec2 import Ec2Launcher
        from airflow_transient.aws.ecs import EcsLauncher

        _pace_as_configured()
        if kind == "ecs":
            return EcsLauncher(self.client)
        if kind == "image":
            from airflow_transient.aws.images import ImageLauncher

            return ImageLauncher(self.client, self.signing_life)
        if kind == "asg":
            from airflow_transient.aws.asg import AsgLauncher

            return AsgLauncher(self.client, self.signing_life)
        return Ec2Launcher(self.client, self.signing_life)


@cache
def _pace_as_configured() -> None:
    """Once in a process. Words that are wrong are said so and hold nobody up: least of all a wait."""
    from airflow.sdk import conf

    from airflow_transient.aws import pacing

    try:
        pacing.configure(pacing.read_limits(conf.get("transient", "limits", fallback="")))
    except SpecError as error:
        logging.getLogger(__name__).warning("%s", error)

"""Run a command or a script on EC2 instances that end themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.links.ec2 import InstanceLink, LogLink
from airflow_transient.operators.files import script_text
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.operators.literals import all_plain, is_kept


class TransientEc2Operator(LaunchOperator):
    """
    Launch ``count`` instances that run one job, report and terminate themselves; wait; return the verdict.

    Everything is templated unless it says otherwise. A wrong value raises ``SpecError`` before anything is launched.
    The XCom ``return_value`` is a dict: ``outcome``, ``exit_code``, ``signal``, ``ids``, ``launched``, ``started``,
    ``ended`` (ISO 8601, UTC), ``billed_seconds``, ``log``, ``members``, and ``result``, what the job wrote as JSON to
    ``$TRANSIENT_RESULT`` (16 KiB at most; a list by index where ``count`` > 1; ``result_error`` in its place where it
    could not be fetched). The XCom ``launch`` is there while it still runs.

    A job runs as root with ``HOME=/root`` and sees ``TRANSIENT_RESULT``, ``TRANSIENT_INDEX`` (0 to count - 1),
    ``TRANSIENT_COUNT``, ``TRANSIENT_LAUNCH``, and ``TRANSIENT_PUT``, a program that uploads a file under ``results``
    (``"$TRANSIENT_PUT" FILE [NAME]``, 5 GB at most) without any permission of the instance's own.

    Beside the parameters below, those that all launches share (``LaunchOperator``): ``aws_conn_id``, ``region_name``,
    ``deferrable``, ``poll_interval``, ``on_kill``, ``retry_on_exit_codes``, ``fail_on_exit_codes``,
    ``skip_on_exit_codes``, ``retries``, ``retry_policy``.

    :param command: text for bash, or a list of arguments that no shell touches. Exactly one of command and script.
    :param script: a script's text, starting with ``#!``; or the path of a ``.sh`` or ``.py`` file beside the DAG file,
        whose content is used as it is, without templating. A ``literal`` (``airflow.sdk``) is always the text.
    :param image_id: ``ami-…``.
    :param image_ssm_parameter: the SSM parameter that holds the image id, such as
        ``/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64``.
    :param image_name: the newest image with this name (``*`` allowed) among those of ``image_owners``.
    :param image_owners: account ids, ``amazon``, ``self``; required with ``image_name``.
    :param instance_type: one type, or several in order of preference; the next is tried when EC2 has no room.
    :param subnet_ids: one or several, tried in order for each type; default: the default VPC's.
    :param security_group_ids: default: the VPC's default group.
    :param instance_profile: name or ARN of the instance's role, for ``secrets`` and for what the job does on AWS.
    :param key_name: EC2 key pair, to log in while it runs.
    :param volume_size: GiB of the root volume; default: the image's.
    :param launch_template: id, name, or ``{"id" | "name": …, "version": …}``; what is not given here comes from there.
        Its user data is replaced, and the machine terminates on shutdown whatever it says.
    :param associate_public_ip: True or False; default: the subnet's setting.
    :param count: members of the launch, 1 (default) to 1000; all must succeed, and a retry repeats all.
    :param market: ``"on-demand"`` (default), ``"spot"``, or ``"spot-then-on-demand"``: every type and subnet on spot
        before the first on demand. Spot requests are one-time.
    :param hold_on_failure: timedelta, or seconds: a machine whose job failed stays up so long for a person to look at;
        default 0, at most 24 h. The task does not wait for it.
    :param kill_schedule_role: ARN of a role that EventBridge Scheduler may use to call ec2:TerminateInstances: each
        launch then gets a one-time schedule that ends it at its deadline, with Airflow and the machine both dead.
    :param environment: variables for the job. They are readable by whoever may describe the instance; a value that
        Airflow masks as a secret is refused.
    :param secrets: variable -> SSM parameter (``/name`` or ARN) or Secrets Manager ARN, fetched on the instance with
        its own role; the value is in no user data, log or process list.
    :param max_runtime: timedelta, or seconds; from boot; default 1 h, at most 6 days. Then the machine ends itself.
    :param boot_timeout: timedelta, or seconds; how long it may take to start the job; default 10 min.
    :param results: ``s3://bucket/prefix`` for receipts, logs and results; the instance needs no permission for it.
        Default None: the console is the only channel, without a result.
    :param tags: for instances and volumes, beside our own.
    """

    kind = "ec2"
    ui_color = "#f6c177"
    operator_extra_links = (InstanceLink(), LogLink())
    template_fields: Collection[str] = (
        "command",
        "script",
        "image_id",
        "image_ssm_parameter",
        "image_name",
        "image_owners",
        "instance_type",
        "subnet_ids",
        "security_group_ids",
        "instance_profile",
        "key_name",
        "volume_size",
        "launch_template",
        "associate_public_ip",
        "count",
        "market",
        "hold_on_failure",
        "kill_schedule_role",
        "environment",
        "secrets",
        "max_runtime",
        "boot_timeout",
        "results",
        "tags",
        "aws_conn_id",
        "region_name",
    )
    template_fields_renderers = {"command": "bash", "script": "bash", "environment": "json", "tags": "json"}  # noqa: RUF012 - Airflow reads it from the class

    def __init__(
        self,
        *,
        command: str | Sequence[str] | None = None,
        script: str | None = None,
        image_id: str | None = None,
        image_ssm_parameter: str | None = None,
        image_name: str | None = None,
        image_owners: str | Sequence[str] | None = None,
        instance_type: str | Sequence[str] | None = None,
        subnet_ids: str | Sequence[str] | None = None,
        security_group_ids: str | Sequence[str] | None = None,
        instance_profile: str | None = None,
        key_name: str | None = None,
        volume_size: int | str | None = None,
        launch_template: str | dict[str, Any] | None = None,
        associate_public_ip: bool | str | None = None,
        count: int | str = 1,
        market: str = "on-demand",
        hold_on_failure: timedelta | float | str = 0,
        kill_schedule_role: str | None = None,
        environment: dict[str, Any] | None = None,
        secrets: dict[str, str] | None = None,
        max_runtime: timedelta | float | str = timedelta(hours=1),
        boot_timeout: timedelta | float | str = timedelta(minutes=10),
        results: str | None = None,
        tags: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.script = script
        self._script_is_text = is_kept(script)
        self.image_id = image_id
        self.image_ssm_parameter = image_ssm_parameter
        self.image_name = image_name
        self.image_owners = image_owners
        self.instance_type = instance_type
        self.subnet_ids = subnet_ids
        self.security_group_ids = security_group_ids
        self.instance_profile = instance_profile
        self.key_name = key_name
        self.volume_size = volume_size
        self.launch_template = launch_template
        self.associate_public_ip = associate_public_ip
        self.count = count
        self.market = market
        self.hold_on_failure = hold_on_failure
        self.kill_schedule_role = kill_schedule_role
        self.environment = environment
        self.secrets = secrets
        self.max_runtime = max_runtime
        self.boot_timeout = boot_timeout
        self.results = results
        self.tags = tags

    def make_spec(self) -> Ec2Spec:
        return Ec2Spec.of(**all_plain(self._words() | {"script": self._script_text()}))

    def _script_text(self) -> Any:
        return script_text(self.script, self._script_is_text, self.get_dag())

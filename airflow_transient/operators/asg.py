"""Run a command, a script, or what is already there, on machines of an existing Auto Scaling group."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.links.asg import GroupLink
from airflow_transient.links.ec2 import InstanceLink, LogLink
from airflow_transient.operators.files import script_text
from airflow_transient.operators.launch import LaunchOperator
from airflow_transient.operators.literals import all_plain, is_kept


class AutoScalingBurstOperator(LaunchOperator):
    """
    Start ``count`` machines of an existing, idle Auto Scaling group, wait for them to end, return the verdict.

    The group is borrowed for the minutes in which its machines start: what would start others, or end these, is
    suspended; the machines are detached as soon as they are in service; then the group is exactly as it was, whatever
    happened in between. A group that is in use is refused with ``LaunchError``, one that cannot be used, as far as
    looks show that, with ``SpecError``, before anything is changed; where AWS does not start its machines, the error
    comes after the group was given back. docs/groups.md tells the steps and the permissions.

    With ``command`` or ``script`` the machines start from the group's own image, types, network and role, by a launch
    template of ours that exists only meanwhile, and report how the job ended. Without, the user data of the group's
    own template runs, and nobody hears how it ended: the outcome is ``ended-unverified`` and raises ``Unverified``,
    unless ``trust_shutdown`` takes a machine's own shutdown for a success.

    Everything is templated unless it says otherwise. The XCom ``return_value`` is that of ``TransientEc2Operator``,
    and so is what a job sees; but where count > 1, which index a machine of a group is told is for the group to say,
    and several may be told the same ``TRANSIENT_INDEX``.

    Beside the parameters below, those that all launches share (``LaunchOperator``): ``aws_conn_id``, ``region_name``,
    ``deferrable``, ``poll_interval``, ``on_kill``, ``retry_on_exit_codes``, ``fail_on_exit_codes``,
    ``skip_on_exit_codes``, ``retries``, ``retry_policy``. Until the machines are in service a worker waits.

    :param group_name: the group's name or ARN. It is empty between launches: desired capacity 0 and no instances. Where
        its maximum is less than ``count``, it is raised while the machines start.
    :param command: text for bash, or a list of arguments that no shell touches. At most one of command and script.
    :param script: a script's text, starting with ``#!``; or the path of a ``.sh`` or ``.py`` file beside the DAG file,
        whose content is used as it is, without templating. A ``literal`` (``airflow.sdk``) is always the text.
    :param count: machines, 1 (default) to 1000; all must succeed, and a retry repeats all.
    :param trust_shutdown: True: without command and script, a machine that shuts itself down has succeeded. Default
        False.
    :param hold_on_failure: timedelta, or seconds: a machine whose job failed stays up so long for a person to look at;
        default 0, at most 24 h. The task does not wait for it.
    :param kill_schedule_role: ARN of a role that EventBridge Scheduler may use to call ec2:TerminateInstances: each
        launch then gets a one-time schedule that ends it at its deadline, with Airflow and the machine both dead.
    :param environment: variables for the job. They are readable by whoever may describe the instance; a value that
        Airflow masks as a secret is refused.
    :param secrets: variable -> SSM parameter (``/name`` or ARN) or Secrets Manager ARN, fetched on the machine with
        the role that the group gives it.
    :param max_runtime: timedelta, or seconds; from boot; default 1 h, at most 6 days. Then the machine ends itself, or
        is ended where its own user data runs.
    :param boot_timeout: timedelta, or seconds; how long the machines may take to come into service and start the job,
        and so how long the group may be on loan; default 10 min.
    :param results: ``s3://bucket/prefix`` for receipts, logs and results; the machine needs no permission for it.
        Default None: the console is the only channel, without a result.
    :param tags: for machines and volumes, beside our own.
    """

    kind = "asg"
    ui_color = "#eb9b6f"
    operator_extra_links = (GroupLink(), InstanceLink(), LogLink())
    template_fields: Collection[str] = (
        "group_name",
        "command",
        "script",
        "count",
        "trust_shutdown",
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
        group_name: str,
        command: str | Sequence[str] | None = None,
        script: str | None = None,
        count: int | str = 1,
        trust_shutdown: bool | str = False,
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
        self.group_name = group_name
        self.command = command
        self.script = script
        self._script_is_text = is_kept(script)
        self.count = count
        self.trust_shutdown = trust_shutdown
        self.hold_on_failure = hold_on_failure
        self.kill_schedule_role = kill_schedule_role
        self.environment = environment
        self.secrets = secrets
        self.max_runtime = max_runtime
        self.boot_timeout = boot_timeout
        self.results = results
        self.tags = tags

    def make_spec(self) -> GroupSpec:
        script = script_text(self.script, self._script_is_text, self.get_dag())
        return GroupSpec.of(**all_plain(self._words() | {"script": script}))

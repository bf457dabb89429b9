"""Make a machine image with a script, on a machine that exists only for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_transient.core.images.spec import BakeSpec
from airflow_transient.links.ec2 import InstanceLink, LogLink
from airflow_transient.operators.baking import BakingOperator
from airflow_transient.operators.files import read_files, script_text
from airflow_transient.operators.literals import all_plain, is_kept


class BakeImageOperator(BakingOperator):
    """
    Start a machine from a base image, run a script on it, and make an image of it when the script has ended with 0.

    The machine is there for this alone: it is cleaned, stopped, made an image of, and terminated, however it went. What
    was half made is removed, and the end of the script's log comes with the task's error. The same inputs (base image,
    script, files, environment, secrets by their names, volume_size) give the image that this deployment has made of
    them before, without a machine. The image's name is ``name``, a dash, and a hash of these.

    Everything is templated unless it says otherwise. A wrong value raises ``SpecError`` before anything is launched.
    The XCom ``return_value`` is a dict: ``image_id``, ``name``, ``reused`` (whether it was there before), ``regions``
    (region -> image id, the operator's own region included), ``snapshot_ids`` (region -> list), ``source`` (the base
    image), ``inputs`` (the hash), ``removed`` (by ``keep_last``), ``seconds``, ``token`` (of the launch),
    ``outcome``.

    Beside the parameters below, those that all launches share (``LaunchOperator``): ``aws_conn_id``, ``region_name``,
    ``deferrable``, ``poll_interval``, ``on_kill``, ``retry_on_exit_codes``, ``fail_on_exit_codes``,
    ``skip_on_exit_codes``, ``retries``, ``retry_policy``.

    :param name: of the family of images; 3 to 80 letters, digits, spaces and ``()[]./-'@_``.
    :param script: a script's text, starting with ``#!``; or the path of a ``.sh`` or ``.py`` file beside the DAG file,
        whose content is used as it is, without templating. A ``literal`` (``airflow.sdk``) is always the text. It runs
        as root; its exit code decides.
    :param files: path on the machine -> path of a file or folder beside the DAG file. They are placed before the script
        runs, executable where they are so here. 200 files and 1 MiB at most in all; more than some kilobytes need
        ``results``. Nothing may go under /run, /tmp, /var/lib/cloud and /var/lib/transient.
    :param image_id: the base image, ``ami-…``.
    :param image_ssm_parameter: the SSM parameter that holds the base image's id.
    :param image_name: the newest image with this name (``*`` allowed) among those of ``image_owners``.
    :param image_owners: account ids, ``amazon``, ``self``; required with ``image_name``.
    :param instance_type: one type, or several in order of preference; the next is tried when EC2 has no room.
    :param subnet_ids: one or several, tried in order for each type; default: the default VPC's.
    :param security_group_ids: default: the VPC's default group.
    :param instance_profile: name or ARN of the machine's role, for ``secrets`` and for what the script does on AWS.
    :param key_name: EC2 key pair, to log in while it runs; no ``authorized_keys`` of root or in /home is in the image.
    :param volume_size: GiB of the root volume, and so of the image; default: the base image's.
    :param associate_public_ip: True or False; default: the subnet's setting.
    :param environment: variables for the script; a value that Airflow masks as a secret is refused.
    :param secrets: variable -> SSM parameter (``/name`` or ARN) or Secrets Manager ARN, fetched on the machine with its
        own role and kept in memory there: they are not in the image unless the script writes them down.
    :param max_runtime: timedelta, or seconds; of the script, from boot; default 1 h, at most 6 days.
    :param boot_timeout: timedelta, or seconds; how long it may take to start the script; default 10 min.
    :param image_timeout: timedelta, or seconds; how long the image and its copies may take after that; default 1 h,
        5 min to 12 h. Large disks take long.
    :param results: ``s3://bucket/prefix`` for receipts and logs; the machine needs no permission for it. Default None:
        the console is the only channel.
    :param tags: for the machine, its volumes, the image and its snapshots, beside our own.
    :param copy_to_regions: regions that get a copy of the image.
    :param ssm_parameter: name of an SSM parameter (data type ``aws:ec2:image``) that is set to the image's id once it
        is available, in each of these regions to the copy there.
    :param keep_last: so many images of this name are kept; older ones of this deployment are deregistered and their
        snapshots deleted, unless somebody may need one. Default None: all stay. What goes wrong there is a warning.
    :param force: make a new image even if there is one of the same inputs; its name has a suffix.
    :param kill_schedule_role: ARN of a role that EventBridge Scheduler may use to call ec2:TerminateInstances: the
        machine then gets a one-time schedule that ends it at its deadline.
    """

    ui_color = "#9ccfd8"
    operator_extra_links = (InstanceLink(), LogLink())
    template_fields: Collection[str] = (
        "name",
        "script",
        "files",
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
        "associate_public_ip",
        "environment",
        "secrets",
        "max_runtime",
        "boot_timeout",
        "image_timeout",
        "results",
        "tags",
        "copy_to_regions",
        "ssm_parameter",
        "keep_last",
        "force",
        "kill_schedule_role",
        "aws_conn_id",
        "region_name",
    )
    template_fields_renderers = {"script": "bash", "environment": "json", "tags": "json", "files": "json"}  # noqa: RUF012 - Airflow reads it from the class

    def __init__(
        self,
        *,
        name: str,
        script: str,
        files: Mapping[str, str] | None = None,
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
        associate_public_ip: bool | str | None = None,
        environment: dict[str, Any] | None = None,
        secrets: dict[str, str] | None = None,
        max_runtime: timedelta | float | str = timedelta(hours=1),
        boot_timeout: timedelta | float | str = timedelta(minutes=10),
        image_timeout: timedelta | float | str = timedelta(hours=1),
        results: str | None = None,
        tags: dict[str, str] | None = None,
        copy_to_regions: str | Sequence[str] | None = None,
        ssm_parameter: str | None = None,
        keep_last: int | str | None = None,
        force: bool | str = False,
        kill_schedule_role: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.script = script
        self._script_is_text = is_kept(script)
        self.files = files
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
        self.associate_public_ip = associate_public_ip
        self.environment = environment
        self.secrets = secrets
        self.max_runtime = max_runtime
        self.boot_timeout = boot_timeout
        self.image_timeout = image_timeout
        self.results = results
        self.tags = tags
        self.copy_to_regions = copy_to_regions
        self.ssm_parameter = ssm_parameter
        self.keep_last = keep_last
        self.force = force
        self.kill_schedule_role = kill_schedule_role

    def make_spec(self) -> BakeSpec:
        plain = all_plain(self._words())
        dag = self.get_dag()
        text = script_text(plain["script"], self._script_is_text, dag)
        return BakeSpec.of(**plain | {"script": text, "files": read_files(plain["files"], dag)})

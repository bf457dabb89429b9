"""The local cloud as one object: starts, hands out clients, stops, and leaves nothing behind.

Law: it listens on 127.0.0.1 alone. One at a time in a process, because moto keeps its state in the process.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_transient.localcloud import (
    container_python,
    events,
    moto_events,
    moto_images,
    moto_reads,
    mounts,
    sandbox,
    toolbox,
)
from airflow_transient.localcloud.errors import LocalCloudError, MotoMissing, NoBoto3
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.folder import files_allowed, made_folder
from airflow_transient.localcloud.group_keeper import Keeper
from airflow_transient.localcloud.images import Disks, Images
from airflow_transient.localcloud.machines import RECLAIMED, Machines, warn
from airflow_transient.localcloud.moto_sqs import Queues
from airflow_transient.localcloud.runner import Host
from airflow_transient.localcloud.sandbox_runner import SandboxRunner

REGION = "eu-west-1"
_running = threading.Lock()
_making_clients = threading.Lock()  # boto3 sessions are not safe between threads, their clients are


class LocalCloud:
    """AWS on 127.0.0.1, on which RunInstances really boots.

    :param sandbox: auto, bubblewrap or unshare; auto takes the first that works here.
    :param port: 0 picks a free one.
    :param boot_delay: seconds an instance stays pending before its guest starts.
    :param describe_lag: so many times DescribeInstances by id does not know a new instance yet.
    :param sqs_lag: the counters of GetQueueAttributes are at least so many seconds old, of every queue.
    :param task_delay: seconds an ECS task stays PROVISIONING before its containers start.
    :param task_memory: so many seconds a stopped task can be described; default always (AWS: at least an hour).
    :param image_delay: seconds an image stays pending.
    :param hide: commands that guests shall not find, as if never installed.
    :param share: folders of this machine that guests see, read-only, where they stand.
    :param boto3: machines' python3 has boto3, as after `dnf install python3-boto3`; tasks' always has. It is this
        process's boto3, so this machine's own python3 must be one that it runs on.
    """

    region = REGION

    def __init__(
        self,
        *,
        sandbox: str = "auto",
        port: int = 0,
        boot_delay: float = 0.0,
        describe_lag: int = 0,
        sqs_lag: float = 0.0,
        task_delay: float = 0.0,
        task_memory: float | None = None,
        image_delay: float = 0.0,
        hide: Sequence[str] = (),
        share: Sequence[str | Path] = (),
        boto3: bool = False,
    ) -> None:
        self._wanted, self._port = sandbox, port
        self._boot_delay, self._describe_lag = boot_delay, describe_lag
        self._hide, self._share = tuple(hide), tuple(mounts.read_only(Path(path).resolve()) for path in share)
        self._boto3 = boto3
        self.faults = Faults()
        #: How long images take to be made, and which of them come to nothing.
        self.images = Images(image_delay)
        self._stack = ExitStack()
        self._choice: Any = None
        self._runner: SandboxRunner | None = None
        self._machines: Machines
        self._sqs_lag = sqs_lag
        self._queues: Queues
        self._task_delay, self._task_memory = task_delay, task_memory
        self._ecs: Any = None

    # --- life -------------------------------------------------------------------------------------------

    def start(self) -> LocalCloud:
        if not _running.acquire(blocking=False):
            raise LocalCloudError("One local cloud runs in this process already; stop it first.")
        with ExitStack() as stack:
            stack.callback(_running.release)
            self._choice = sandbox.choose(self._wanted)
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Ends every sandbox, forgets everything, removes the temporary folder. Twice is fine."""
        self._stack.close()

    def __enter__(self) -> LocalCloud:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _open(self, stack: ExitStack) -> None:
        try:
            from airflow_transient.localcloud import moto_ecs, moto_seams, server
        except ImportError as error:
            raise MotoMissing(
                f"The local cloud needs moto: pip install 'airflow-transient[local]' ({error})"
            ) from error
        stack.enter_context(files_allowed())
        folder = stack.enter_context(made_folder())
        door = folder / "endpoint"
        listener = server.Listener("127.0.0.1", self._port, door)
        self._port = listener.port
        box = toolbox.furnish(folder, self._hide)
        python = container_python.furnish(folder)
        if self._boto3 and not python.of_machine:
            raise NoBoto3("boto3=True needs python3 3.10 or later at /usr/bin on this machine.")
        packages = python if self._boto3 else None
        host = Host(self._choice.sandbox, box, folder, door, self._port, self._share, self._boot_delay, packages)
        self._runner = SandboxRunner(host)
        disks = Disks(folder)
        self._machines = Machines(self._runner, moto_seams.finish, moto_reads.metadata, disks)
        self._queues = Queues(self.faults, self._sqs_lag)
        self._ecs = moto_ecs.made(self._runner, python, self.faults, self._task_delay, self._task_memory)
        keeper = Keeper(self._machines.lock, self.client)
        seams = moto_seams.Seams(
            self._machines,
            self._runner,
            self.faults,
            self._queues,
            self._ecs,
            moto_images.MotoImages(self.images, disks),
            keeper,
            self._describe_lag,
        )
        stack.callback(server.forget_everything)
        server.forget_everything()
        stack.callback(seams.uninstall)
        seams.install()
        self._ecs.open(self.region)
        stack.callback(self._runner.close)
        stream = events.Stream(moto_events.wanted, moto_events.deliver, self.faults.event_fate)
        stack.callback(stream.close)
        stream.open()
        stack.callback(listener.stop)
        stack.callback(self.faults.clear)
        listener.serve(self._machines.lock, self.faults)
        stack.callback(keeper.close)

    # --- what one asks of it ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def sandbox(self) -> str:
        return str(self._choice.sandbox.name)

    @property
    def why(self) -> str:
        """Why this sandbox was chosen."""
        return str(self._choice.why)

    @property
    def env(self) -> dict[str, str]:
        """The environment that sends a child process here and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": moto_reads.OWN_KEYS.access_key,
            "AWS_SECRET_ACCESS_KEY": moto_reads.OWN_KEYS.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service: str, region_name: str | None = None) -> Any:
        from botocore.config import Config

        # boto3 still presigns by signature version 2 for a custom endpoint; S3 here, as with KMS, takes 4 only.
        # No proxy stands before this machine, and botocore is not to look for one in the environment.
        config = Config(signature_version="s3v4" if service == "s3" else None, proxies={})
        with _making_clients:
            return _session().client(
                service,
                region_name=region_name or self.region,
                endpoint_url=self.url,
                config=config,
                aws_access_key_id=moto_reads.OWN_KEYS.access_key,
                aws_secret_access_key=moto_reads.OWN_KEYS.secret_key,
            )

    def console(self, instance_id: str) -> bytes:
        """What the guest printed so far (of very much, the end)."""
        return self._alive().console(instance_id).read()

    def states(self) -> dict[str, str]:
        with self._guarded():
            return moto_reads.states()

    def queue_calls(self, queue: str, region: str | None = None) -> dict[str, int]:
        """How often each action was asked of this queue, by AWS's names; what a fault refused is not counted."""
        self._alive()
        return self._queues.calls(region or self.region, queue)

    def output(self, task: str, container: str) -> bytes:
        """What this container of the task (id or ARN) printed so far, whatever its log driver (of much, the end)."""
        self._alive()
        said: bytes = self._ecs.outputs.of(task.rpartition("/")[2], container).read()
        return said

    def sandbox_pids(self) -> list[int]:
        return self._alive().pids()

    def reclaim(self, instance_id: str, notice: float = 120.0) -> None:
        """A staged spot interruption: notice in the metadata now, the machine taken `notice` seconds on.

        An ECS task, by its ARN, gets its SIGTERM at once, and SIGKILL after its containers' stopTimeout.
        """
        if self._is_task(instance_id):
            self._ecs.interrupt(instance_id)
            return
        with self._guarded():
            instance = moto_reads.find_instance(instance_id)
            at = datetime.now(timezone.utc) + timedelta(seconds=notice)
            instance.localcloud_reclaimed_at = at.strftime("%Y-%m-%dT%H:%M:%SZ")
            warn(instance)
        timer = threading.Timer(notice, self._take, (instance,))
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)

    def fail_host(self, instance_id: str) -> None:
        """The host dies, and the machine or task (by its ARN) with it: no notice, no grace, Server.InternalError."""
        if self._is_task(instance_id):
            self._ecs.fail_host(instance_id)
            return
        with self._guarded() as machines:
            machines.fail(moto_reads.find_instance(instance_id))

    @staticmethod
    def _is_task(name: str) -> bool:
        return name.startswith("arn:") and ":task/" in name

    def _take(self, instance: Any) -> None:
        with self._guarded() as machines:
            machines.end(instance, "terminated", RECLAIMED)

    def _alive(self) -> SandboxRunner:
        if self._runner is None:
            raise LocalCloudError("This local cloud was not started: use `with LocalCloud() as cloud:`.")
        return self._runner

    def _guarded(self) -> _Guard:
        self._alive()
        return _Guard(self._machines)


@functools.cache
def _session() -> Any:
    """One for all clients: each new session reads the service models again, 0.1 s a client."""
    import boto3

    return boto3.session.Session()


class _Guard:
    """The machines, while nothing else changes them."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines

    def __enter__(self) -> Machines:
        self._machines.lock.acquire()
        return self._machines

    def __exit__(self, *_: object) -> None:
        self._machines.lock.release()

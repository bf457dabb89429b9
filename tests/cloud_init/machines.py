"""Machines that boot a real Debian under a real systemd and cloud-init: what to boot, and what was left behind.

Around a machine there is the local cloud's bucket (at the address its presigned form names), and a metadata service
of its own at 169.254.169.254, from which cloud-init's Ec2 datasource takes the user data as it does on EC2.
"""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_transient.aws.receipts import ReceiptBox
from airflow_transient.core.ec2 import bootscript
from airflow_transient.core.ec2.judging import Ec2Sighting, judge_member
from airflow_transient.core.ec2.receipts import Receipt, boot_evidence, parse_receipt, receipts_on_console
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.launch import Launch
from airflow_transient.core.verdict import Member, Phase
from airflow_transient.localcloud import LocalCloud, imds
from tests.cloud_init.chamber import Plan
from tests.cloud_init.groups import PREFIX, groups

NONCE = "5eed5eed5eed5eed"
PASSWORD = "it's s3cret"
ITSELF, FROM_OUTSIDE = "Client.InstanceInitiatedShutdown", "Client.UserInitiatedShutdown"
USUAL = {"command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": "t3.small", "max_runtime": 60}
USUAL_BOUND = 30.0
#: Cloud-init's last word, which it says whether or not it ran a script.
FINISHED = " finished at "
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """One boot. `words` are the operator's; the rest is what the world does to it.

    `user_data`: makes other bytes than ours of the boot script. `bucket`: whether it can be reached from the machine.
    `power_off_at`: the object whose arrival makes us press the power button. `memory`: bytes the machine has.
    `bound`: seconds after which the machine must be off. `idles`: nothing on it will end it; its plug is pulled when
    cloud-init has finished.
    """

    name: str
    words: Mapping[str, Any] = field(default_factory=dict)
    user_data: Callable[[str], bytes] | None = None
    bucket: bool = True
    power_off_at: str | None = None
    memory: int | None = None
    bound: float = USUAL_BOUND
    idles: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Ended:
    """What a machine left behind. `off`: it went off by itself, and within its bound."""

    job: Job
    off: bool
    seconds: float
    console: str
    objects: Mapping[str, str]

    @property
    def receipt(self) -> Receipt | None:
        return parse_receipt(self.objects.get("receipt.json", ""), NONCE, "bucket")

    @property
    def markers(self) -> tuple[Receipt | None, Receipt | None]:
        return receipts_on_console(self.console, NONCE)

    @property
    def evidence(self) -> str | None:
        return boot_evidence(self.console, NONCE)

    @property
    def log(self) -> str:
        return self.objects.get("job.log", "")

    @property
    def member(self) -> Member | None:
        """What Airflow would make of it, half an hour later."""
        now = datetime.now(timezone.utc)
        launch = Launch("ec2", "t", NONCE, (self.id,), "eu-west-1", now, now, now + timedelta(hours=1))
        reason = FROM_OUTSIDE if self.job.power_off_at else ITSELF
        told = self.receipt or self.markers[1]
        seen = Ec2Sighting(
            self.id, Phase.ENDED, "terminated", reason, ended=now, receipt=told, boot_evidence=self.evidence
        )
        return judge_member(launch, seen, now + timedelta(minutes=30))

    @property
    def id(self) -> str:
        return instance_id(self.job)


def instance_id(job: Job) -> str:
    return "i-" + "".join(letter if letter.isalnum() else "-" for letter in job.name)


class Fleet:
    """Boots machines, two at a time, in the order they are asked for; each test waits for its own.

    Beside them, one by one, those that mostly sleep: a job deaf to SIGTERM takes 20 s to end.
    """

    def __init__(self, cloud: LocalCloud, root: Path) -> None:
        self.cloud, self.root = cloud, root
        self.s3 = cloud.client("s3")
        self._busy, self._sleepy = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
        self._asked: dict[str, Future[Ended]] = {}
        self._closing = threading.Event()

    def ask(self, job: Job) -> Future[Ended]:
        if job.name not in self._asked:
            pool = self._sleepy if job.bound > USUAL_BOUND else self._busy
            self._asked[job.name] = pool.submit(self._live, job)
        return self._asked[job.name]

    def close(self) -> None:
        self._closing.set()
        for pool in (self._busy, self._sleepy):
            pool.shutdown(cancel_futures=True)

    def _live(self, job: Job) -> Ended:
        begin = time.monotonic()
        with ExitStack() as stack:
            machine = stack.enter_context(self._switched_on(job))
            off = self._watch(job, machine, begin + job.bound)
            seconds = time.monotonic() - begin
        return Ended(job, off, seconds, machine.printed(), self._objects(job))

    @contextmanager
    def _switched_on(self, job: Job) -> Iterator[Machine]:
        with ExitStack() as stack:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-")))
            metadata = self._metadata(job)
            stack.enter_context(door(room / "metadata", lambda guest: imds.serve(guest, lambda: metadata)))
            relays = [(imds.ADDRESS, 80, str(room / "metadata"))]
            if job.bucket:
                stack.enter_context(door(room / "endpoint", self._connect))
                relays.append(("127.0.0.1", self._port, str(room / "endpoint")))
            (room / "machine").mkdir()
            procs = stack.enter_context(groups(job.name.replace(" ", "-"), job.memory))
            plan = Plan(str(self.root), str(room / "machine"), 0, relays, files(self.cloud.url), procs)
            machine = Machine(plan)
            stack.callback(machine.pull_the_plug)
            yield machine

    def _watch(self, job: Job, machine: Machine, end: float) -> bool:
        pressed = job.power_off_at is None
        while machine.alive():
            if time.monotonic() > end or self._closing.is_set() or (job.idles and FINISHED in machine.printed()):
                return False
            if not pressed and job.power_off_at in self._objects(job):
                machine.press_the_power_button()
                pressed = True
            time.sleep(0.05)
        return pressed and machine.code == 0

    # --- what the machine is told -----------------------------------------------------------------------

    def _metadata(self, job: Job) -> imds.Metadata:
        role = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY"}
        keys = {name: self.cloud.env[variable] for name, variable in role.items()} | {"Token": "t"}
        tree = {
            "ami-launch-index": "0",
            "instance-id": instance_id(job),
            "instance-type": "t3.small",
            "local-hostname": "ip-10-0-0-7.eu-west-1.compute.internal",
            "placement/availability-zone": "eu-west-1a",
            "iam/security-credentials/worker": json.dumps(keys),
        }
        # In a container cloud-init cannot read the DMI table, does not know it is on AWS, and asks without a token.
        return imds.Metadata(tree, {}, self._user_data(job), "ip-10-0-0-7", token_required=False)

    def _user_data(self, job: Job) -> bytes:
        spec = Ec2Spec.of(**{**USUAL, "results": f"s3://results/{job.name}", **job.words})
        box = ReceiptBox(self._client, spec.results) if spec.results else None
        form = box.form(spec.lifetime) if box else None
        boot = bootscript.Boot("t", NONCE, self.cloud.region, form)
        script = bootscript.boot_script(spec, boot)
        if job.user_data:
            return job.user_data(script)
        data = bootscript.user_data(script)
        if data is None and box:
            data = bootscript.stub_script(spec, boot, box.keep_script(script, spec.lifetime)).encode()
        assert data is not None
        return data

    def _client(self, service: str, region_name: str | None = None, **_: Any) -> Any:
        return self.cloud.client(service, region_name=region_name)

    # --- what it left behind ----------------------------------------------------------------------------

    def _objects(self, job: Job) -> dict[str, str]:
        prefix = f"{job.name}/{instance_id(job)}/"
        found = self.s3.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", [])
        return {item["Key"].removeprefix(prefix): self._read(item["Key"]) for item in found}

    def _read(self, key: str) -> str:
        return str(self.s3.get_object(Bucket="results", Key=key)["Body"].read().decode(errors="replace"))

    @property
    def _port(self) -> int:
        return int(self.cloud.url.rsplit(":", 1)[1])

    def _connect(self, guest: socket.socket) -> None:
        cloud = socket.create_connection(("127.0.0.1", self._port))
        for source, sink in ((guest, cloud), (cloud, guest)):
            threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def files(endpoint: str) -> dict[str, str]:
    """What is laid over the root: where cloud-init looks, what an image would have settled, and Debian's /run."""
    return {
        "/etc/cloud/cloud.cfg.d/99-tests.cfg": (
            "datasource_list: [ Ec2 ]\n"
            "datasource: { Ec2: { strict_id: false, timeout: 5, max_wait: 10 } }\n"
            "network: { config: disabled }\n"
            "locale: C.UTF-8\n"
            "ssh_genkeytypes: []\n"
        ),
        # initramfs-tools, which a container has none of, mounts /run so on Debian and Ubuntu.
        "/etc/fstab": "tmpfs /run tmpfs rw,nosuid,nodev,noexec 0 0\n",
        "/etc/hostname": "ip-10-0-0-7\n",
        # No genuine machine has this: it is how AWS clients find the local cloud instead of the real one.
        "/etc/systemd/system/cloud-final.service.d/endpoint.conf": (
            f"[Service]\nEnvironment=AWS_ENDPOINT_URL={endpoint}\n"
        ),
    }


@contextmanager
def door(path: Path, receive: Callable[[socket.socket], None]) -> Iterator[None]:
    """A socket file, the only way out of a machine's network; `receive` is given whoever comes and returns at once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        threading.Thread(target=_open, args=(listener, receive), daemon=True).start()
        try:
            yield
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts


def _open(listener: socket.socket, receive: Callable[[socket.socket], None]) -> None:
    with suppress(OSError):
        while True:
            receive(listener.accept()[0])


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Machine:
    """A chamber, its power button and its plug. Its console is a terminal, as a serial line is."""

    def __init__(self, plan: Plan) -> None:
        orders, self._button = os.pipe()
        self._console, terminal = pty.openpty()
        self._printed = bytearray()
        spaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
        told = json.dumps(asdict(replace(plan, orders=orders)))
        self._process = subprocess.Popen(
            ["unshare", *spaces, sys.executable, "-m", "tests.cloud_init.chamber", told],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            pass_fds=[orders],
            cwd=REPOSITORY,
            start_new_session=True,
        )
        os.close(orders)
        os.close(terminal)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # so a terminal says that its other end is closed
            while data := os.read(self._console, 65536):
                self._printed += data

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def alive(self) -> bool:
        return self.code is None

    def press_the_power_button(self) -> None:
        os.write(self._button, b"off\n")

    def pull_the_plug(self) -> None:
        """Also for one that is off: what is left of it is cleared away."""
        os.close(self._button)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=5)
        os.close(self._console)

    def printed(self) -> str:
        return bytes(self._printed).decode(errors="replace")

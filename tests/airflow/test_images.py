"""An image from beginning to end on the local cloud, and every way in which a try may be cut short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_transient import errors
from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.images import ImageLauncher
from airflow_transient.core.launch import Launch
from airflow_transient.core.report import log_command
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.operators.ec2 import TransientEc2Operator
from airflow_transient.operators.images import BakeImageOperator
from airflow_transient.plugin.handles import launch_of
from airflow_transient.triggers.launch import LaunchTrigger
from tests.airflow.legs import Died, away, event
from tests.airflow.stubs import Store, context

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

BASE = "ami-03cf127a"
TOOL = "#!/bin/bash\necho making it\nmkdir -p /var/lib/tool\necho 42 >/var/lib/tool/answer\n"


@dataclass
class Site:
    """The local cloud, and what is left there of one family of images."""

    cloud: Any
    launcher: Any
    dies_after: dict[str, BaseException | type[BaseException]] = field(default_factory=dict)

    def images(self, family: str, region: str | None = None) -> list[dict[str, Any]]:
        filters = [{"Name": "tag:transient:image-family", "Values": [family]}]
        found: list[dict[str, Any]] = self.ec2(region).describe_images(Owners=["self"], Filters=filters)["Images"]
        return found

    def snapshots(self, family: str, region: str | None = None) -> list[str]:
        filters = [{"Name": "tag:transient:image-family", "Values": [family]}]
        found = self.ec2(region).describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
        return [each["SnapshotId"] for each in found]

    def builders(self, family: str) -> list[str]:
        """The states of all machines that were started for this family."""
        filters = [{"Name": "tag:transient:image-builder", "Values": [f"{family}-*"]}]
        found = self.ec2().describe_instances(Filters=filters)["Reservations"]
        return [each["State"]["Name"] for one in found for each in one["Instances"]]

    def parameter(self, name: str, region: str | None = None) -> str:
        return str(self.cloud.client("ssm", region).get_parameter(Name=name)["Parameter"]["Value"])

    def ec2(self, region: str | None = None) -> Any:
        return self.cloud.client("ec2", region)

    def __getattr__(self, verb: str) -> Any:
        """The launcher that tasks are given: after a verb has taken effect its process may be gone."""
        does = getattr(self.launcher, verb)
        if not callable(does):
            return does

        def do(*args: Any, **words: Any) -> Any:
            answer = does(*args, **words)
            if error := self.dies_after.pop(verb, None):
                raise error
            return answer

        return do


@pytest.fixture(scope="module")
def clients(cloud: Any) -> Callable[..., Any]:
    made = cache(cloud.client)
    return lambda service, region_name=None, **_: made(service, region_name)


@pytest.fixture
def site(cloud: Any, clients: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    def nap(seconds: float) -> None:
        time.sleep(min(seconds, 0.2))

    site = Site(cloud, ImageLauncher(clients, lambda _: True, nap))
    machines = Ec2Launcher(clients, lambda _: True, nap)
    monkeypatch.setattr(TransientHook, "launcher", lambda self, kind: site if kind == "image" else machines)
    yield site
    cloud.images.forget()


def bake(family: str, **words: Any) -> BakeImageOperator:
    given = {
        "task_id": "bake",
        "name": family,
        "script": TOOL,
        "image_id": BASE,
        "instance_type": "t3.micro",
        "results": "s3://results/bake",
        "poll_interval": 0.1,
        "deferrable": False,
    }
    return BakeImageOperator(**{**given, **words})


def run(trigger: LaunchTrigger) -> Any:
    return event(trigger, within=30)


def test_an_image_is_made_and_a_machine_from_it_finds_what_the_script_left(site: Site) -> None:
    made = bake("whole", tags={"team": "data"}, ssm_parameter="/images/whole").execute(context())
    (image,) = site.images("whole")
    assert (made["image_id"], made["name"], made["reused"]) == (image["ImageId"], image["Name"], False)
    assert site.builders("whole") == ["terminated"]
    assert site.parameter("/images/whole") == image["ImageId"]
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert (tags["transient:image-source"], tags["team"]) == (BASE, "data")
    assert site.snapshots("whole") == made["snapshot_ids"]["eu-west-1"] != []
    child = TransientEc2Operator(
        task_id="child",
        # It would be shut down by what its parent had left for every boot.
        command='cp /var/lib/tool/answer "$TRANSIENT_RESULT"; sleep 1; ls /var/lib/cloud/instances | wc -l',
        image_id=made["image_id"],
        instance_type="t3.micro",
        results="s3://results/child",
        poll_interval=0.1,
        deferrable=False,
    )
    assert child.execute(context(task_id="child"))["result"] == 42


def test_nothing_of_the_launch_is_in_the_image(site: Site) -> None:
    made = bake("clean", environment={"TOKEN": "mark-of-the-environment"}).execute(context())
    command = "find /var /root /home -name '*transient*' -o -name 'part-001' -o -name 'cloud-init*'"
    child = TransientEc2Operator(
        task_id="child",
        # The child's own script says the words, too: it is left out.
        command=f"{command} | grep -v -e ^/var/lib/transient -e transient-job.log -e per-boot/transient-off; "
        "grep -rl mark-of-the-environmen[t] /var /root /home; exit 0",
        image_id=made["image_id"],
        instance_type="t3.micro",
        results="s3://results/child",
        poll_interval=0.1,
        deferrable=False,
    )
    verdict = child.execute(context(task_id="child"))
    key = verdict["log"].removeprefix("s3://results/")
    log = site.cloud.client("s3").get_object(Bucket="results", Key=key)["Body"].read().decode()
    found = {line.rpartition("/")[2] for line in log.splitlines()}
    assert found <= {"part-001"}, log  # the child's own


def test_who_may_log_in_to_a_builder_may_not_log_in_to_its_children(site: Site) -> None:
    lets_in = "for home in /root /home/ec2-user; do mkdir -p $home/.ssh; echo key >$home/.ssh/authorized_keys; done"
    made = bake("keys", script=f"#!/bin/bash\n{lets_in}; touch /root/.ssh/config\n").execute(context())
    child = TransientEc2Operator(
        task_id="child",
        command="""printf '"%s"' "$(ls -d /root/.ssh/* /home/*/.ssh | tr '\\n' ' ')" >"$TRANSIENT_RESULT"; sleep 1""",
        image_id=made["image_id"],
        instance_type="t3.micro",
        results="s3://results/child",
        poll_interval=0.1,
        deferrable=False,
    )
    found = child.execute(context(task_id="child"))["result"]
    assert found.split() == ["/home/ec2-user/.ssh", "/root/.ssh/config"]


def test_the_same_inputs_give_the_same_image_without_a_machine(site: Site) -> None:
    first = bake("same").execute(context())
    again = bake("same", ssm_parameter="/images/same").execute(context())
    assert (again["image_id"], again["reused"]) == (first["image_id"], True)
    assert site.builders("same") == ["terminated"]
    assert site.parameter("/images/same") == first["image_id"]


def test_forced_it_is_made_again_under_another_name(site: Site) -> None:
    first = bake("force").execute(context())
    forced = bake("force", force=True).execute(context())
    assert forced["image_id"] != first["image_id"]
    assert forced["name"].startswith(f"{first['name']}-t")
    assert bake("force").execute(context())["image_id"] == forced["image_id"]


def test_files_from_beside_the_dag_are_in_their_places(site: Site, tmp_path: Path) -> None:
    (tmp_path / "pie").mkdir()
    (tmp_path / "pie" / "pie.py").write_text("print(3.14)\n")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 2000)  # more than user data takes
    script = "#!/bin/bash\n[ $(python3 /root/pie/pie.py) = 3.14 ] && [ $(stat -c %s /root/big) = 512000 ]\n"
    files = {"/root/pie": str(tmp_path / "pie"), "/root/big": str(tmp_path / "big")}
    assert bake("files", files=files, script=script).execute(context())["outcome"] == "succeeded"


def test_a_copy_in_another_region_is_tagged_and_named_by_its_parameter(site: Site) -> None:
    made = bake("copied", copy_to_regions=["eu-central-1", "eu-west-1"], ssm_parameter="/images/c").execute(context())
    (copy,) = site.images("copied", "eu-central-1")
    assert made["regions"] == {"eu-west-1": made["image_id"], "eu-central-1": copy["ImageId"]}
    assert site.parameter("/images/c", "eu-central-1") == copy["ImageId"]
    assert len(site.snapshots("copied", "eu-central-1")) == 1


def test_a_copy_that_is_asked_for_later_needs_no_machine(site: Site) -> None:
    bake("later").execute(context())
    made = bake("later", copy_to_regions="eu-central-1").execute(context())
    assert made["reused"]
    assert set(made["regions"]) == {"eu-west-1", "eu-central-1"}
    assert site.builders("later") == ["terminated"]
    assert bake("later", copy_to_regions="eu-central-1").execute(context())["regions"] == made["regions"]


def test_a_script_that_fails_leaves_its_log_and_nothing_else(site: Site) -> None:
    op, store = bake("fails", script="#!/bin/bash\necho no such package >&2\nexit 3\n"), Store()
    ctx = context(store)
    with pytest.raises(errors.JobFailed, match=r"(?s)exit 3.*no such package"):
        op.execute(ctx)
    said = launch_of(ctx["ti"].xcoms["launch"])
    assert said is not None  # the page believes it, and a report knows where its log is
    assert (said.kind, [ctx["ti"].xcoms["launch"]["failed"]]) == ("ec2", list(said.ids))
    assert " ".join(log_command(said)).startswith(f"aws s3 cp s3://results/bake/{said.token}/{said.ids[0]}/job.log")
    assert site.images("fails") == site.snapshots("fails") == []
    assert site.builders("fails") == ["terminated"]
    with pytest.raises(errors.JobFailed):
        op.execute(context(store, try_number=2))
    assert site.builders("fails") == ["terminated", "terminated"]


def test_a_script_that_takes_too_long_is_stopped_and_its_machine_terminated(site: Site) -> None:
    with pytest.raises(errors.Overdue):
        bake("slow", script="#!/bin/bash\nsleep 100\n", max_runtime=1).execute(context())
    assert site.builders("slow") == ["terminated"]


def test_a_script_that_shuts_the_machine_down_is_cleaned_all_the_same(site: Site) -> None:
    made = bake("down", script="#!/bin/bash\nshutdown -h now\n").execute(context())
    child = TransientEc2Operator(
        task_id="child",
        command="sleep 1",
        image_id=made["image_id"],
        instance_type="t3.micro",
        poll_interval=0.1,
        deferrable=False,
    )
    assert child.execute(context(task_id="child"))["outcome"] == "succeeded"


def test_a_machine_that_cannot_be_cleaned_becomes_no_image(site: Site) -> None:
    """A child of it would boot with its builder's end."""
    with pytest.raises(errors.BootFailed, match="could not be cleaned"):
        bake("dirty", script="#!/bin/bash\nmkdir /run/transient/log\n").execute(context())
    assert site.images("dirty") == []
    assert site.builders("dirty") == ["terminated"]


def test_an_image_that_fails_is_removed_and_the_next_try_builds_anew(site: Site) -> None:
    site.cloud.images.fail_next("Server.InternalError", "the disk of a dream")
    op, store = bake("broken"), Store()
    ctx = context(store)
    with pytest.raises(errors.Lost, match="the disk of a dream"):
        op.execute(ctx)
    assert ctx["ti"].xcoms["launch"]["failed"].startswith("i-")  # its machine is all that links can show
    assert site.images("broken") == site.snapshots("broken") == []
    assert op.execute(context(store, try_number=2))["outcome"] == "succeeded"
    assert site.builders("broken") == ["terminated", "terminated"]


def test_the_waits_are_deferred(site: Site) -> None:
    op, ctx = bake("waits", deferrable=True, copy_to_regions="eu-central-1"), context()
    site.cloud.images.delay = 0.5
    trigger = away(lambda: op.execute(ctx))
    assert ctx["ti"].xcoms["launch"]["kind"] == "ec2"  # the links and the page know it as a machine
    trigger = away(lambda: op.execute_complete(ctx, event=run(trigger)))
    assert trigger.launch["ids"][0].startswith("ami-")
    assert site.builders("waits") == ["stopped"]
    trigger = away(lambda: op.execute_complete(ctx, event=run(trigger)))
    assert site.builders("waits") == ["terminated"]  # its image is whole, and the copy needs no machine
    assert len(op.execute_complete(ctx, event=run(trigger))["regions"]) == 2


# --- cut short


VERBS = ("plan", "same", "prepare", "launch", "make", "copy", "end_builder", "delivered", "publish", "clear_old")


def killed_after(site: Site, verb: str, op: BakeImageOperator, store: Store) -> None:
    site.dies_after = {verb: Died}
    with pytest.raises(Died):
        op.execute(context(store))
    assert site.dies_after == {}


def whole(site: Site, family: str, made: dict[str, Any], builders: int) -> None:
    """One image here, one copy there, nothing else, and all machines gone."""
    for region, image_id in made["regions"].items():
        assert [(i["ImageId"], i["State"]) for i in site.images(family, region)] == [(image_id, "available")]
        assert len(site.snapshots(family, region)) == 1
    assert site.parameter(f"/images/{family}") == made["image_id"]
    assert site.builders(family) == ["terminated"] * builders


@pytest.mark.parametrize("verb", VERBS)
def test_the_next_try_goes_on_where_the_last_one_died(site: Site, verb: str) -> None:
    family, store = f"after {verb}", Store()
    op = bake(family, copy_to_regions="eu-central-1", ssm_parameter=f"/images/after-{verb}", keep_last=1)
    killed_after(site, verb, op, store)
    made = op.execute(context(store, try_number=2))
    assert site.parameter(f"/images/after-{verb}") == made["image_id"]
    for region, image_id in made["regions"].items():
        assert [(i["ImageId"], i["State"]) for i in site.images(family, region)] == [(image_id, "available")]
        assert len(site.snapshots(family, region)) == 1
    assert site.builders(family) == ["terminated"]


@pytest.mark.parametrize("verb", ["launch", "make", "copy", "publish"])
def test_a_clear_after_a_crash_leaves_one_whole_image(site: Site, verb: str) -> None:
    """max_tries has changed: what was begun is called off, and what is whole is used again."""
    family, store = f"cleared-{verb}", Store()
    op = bake(family, copy_to_regions="eu-central-1", ssm_parameter=f"/images/{family}")
    killed_after(site, verb, op, store)
    made = op.execute(context(store, try_number=2, max_tries=4))
    whole(site, family, made, builders=2 if verb == "launch" else 1)
    assert made["reused"] is (verb != "launch")


def pending(site: Site, op: BakeImageOperator, ctx: Any) -> LaunchTrigger:
    """Up to the wait for the image, which stays pending."""
    site.cloud.images.delay = 600
    trigger = away(lambda: op.execute(ctx))
    return away(lambda: op.execute_complete(ctx, event=run(trigger)))


def test_marked_failed_while_the_image_is_pending_nothing_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    op, store = bake("marked", deferrable=True), Store()
    trigger = pending(site, op, context(store))

    async def failed(self: LaunchTrigger) -> str:
        return "failed"

    monkeypatch.setattr(LaunchTrigger, "_task_state", failed)
    asyncio.run(trigger.on_kill())
    assert site.images("marked") == site.snapshots("marked") == []
    assert site.builders("marked") == ["terminated"]
    site.cloud.images.delay = 0
    made = bake("marked").execute(context(store, try_number=2))
    assert made["outcome"] == "succeeded"


def test_cleared_while_the_image_is_pending_it_is_made_anew(site: Site) -> None:
    op, store = bake("anew", deferrable=True), Store()
    pending(site, op, context(store))
    site.cloud.images.delay = 0
    made = bake("anew", ssm_parameter="/images/anew").execute(context(store, try_number=2, max_tries=4))
    whole(site, "anew", made, builders=2)


def test_a_task_that_times_out_takes_everything_with_it(site: Site) -> None:
    site.cloud.images.delay = 600
    site.dies_after = {"make": AirflowTaskTimeout}
    with pytest.raises(AirflowTaskTimeout):
        bake("timeout").execute(context())
    assert site.images("timeout") == site.snapshots("timeout") == []
    assert site.builders("timeout") == ["terminated"]


def test_a_launch_that_is_past_its_deadline_takes_the_pending_image_with_it(site: Site) -> None:
    op, store = bake("late", deferrable=True), Store()
    trigger = pending(site, op, context(store))
    launch = Launch.from_dict(trigger.launch)
    late = {**launch.to_dict(), "deadline": launch.requested_at.isoformat()}
    with pytest.raises(errors.Overdue, match="image_timeout"):
        op.execute_complete(context(store), event=run(LaunchTrigger(late, poll_interval=0.1)))
    assert site.images("late") == site.snapshots("late") == []
    assert site.builders("late") == ["terminated"]


def test_a_builder_that_somebody_terminates_under_us_is_built_anew(site: Site) -> None:
    op, store = bake("gone"), Store()
    killed_after(site, "launch", op, store)
    launch = Launch.from_dict(store.kept["airflow_transient.intent"]["request"]["launch"])
    adopted = site.launcher.adopt(site_request(store))
    assert adopted.token == launch.token
    deadline = time.monotonic() + 20
    while site.builders("gone") != ["stopped"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    site.ec2().terminate_instances(InstanceIds=list(adopted.ids))
    with pytest.raises(errors.Lost, match="another try builds anew"):
        op.execute(context(store, try_number=2))
    assert op.execute(context(store, try_number=3))["outcome"] == "succeeded"


def site_request(store: Store) -> Any:
    from airflow_transient.core.requests import Request

    return Request.from_dict(store.kept["airflow_transient.intent"]["request"])


def test_told_once_it_is_told_again_and_not_made_again(site: Site) -> None:
    op, store = bake("told"), Store()
    made = op.execute(context(store))
    assert op.execute(context(store, try_number=2)) == made
    assert site.builders("told") == ["terminated"]


def test_an_unclear_answer_leaves_the_builder_to_the_next_try(site: Site) -> None:
    op, store = bake("unclear", ssm_parameter="/images/unclear"), Store()
    site.dies_after = {"make": errors.LaunchError("no clear answer")}
    with pytest.raises(errors.LaunchError):
        op.execute(context(store))
    assert site.builders("unclear") == ["stopped"]
    whole(site, "unclear", op.execute(context(store, try_number=2)), builders=1)


@pytest.mark.parametrize(
    ("error", "try_number"),
    [
        pytest.param(errors.AccessError("not allowed: ec2:CreateImage is needed"), 1, id="no try helps"),
        pytest.param(errors.LaunchError("no clear answer"), 3, id="no try is left"),
    ],
)
def test_where_no_try_follows_no_builder_is_left(site: Site, error: Exception, try_number: int) -> None:
    family = f"last-{try_number}"
    site.dies_after = {"make": error}
    with pytest.raises(type(error)):
        bake(family).execute(context(try_number=try_number, max_tries=2))
    assert site.builders(family) == ["terminated"]


def test_without_a_bucket_the_console_is_enough(site: Site) -> None:
    assert bake("console", results=None).execute(context())["outcome"] == "succeeded"


def test_two_tasks_at_once_make_one_image(site: Site) -> None:
    """Both found none and built; the second meets the first one's name, and takes its image."""
    site.cloud.images.delay = 1.0
    one = away(lambda: bake("both", deferrable=True).execute(context(run_id="one")))
    event = run(one)
    made = bake("both").execute(context(run_id="two"))
    again = away(lambda: bake("both", deferrable=True).execute_complete(context(run_id="one"), event=event))
    assert again.launch["ids"] == [made["image_id"]]
    assert len(site.images("both")) == 1

"""What may be asked for, what the image is called, and what its inputs are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_transient.core.images.plan import Plan, member_of, place_of_member
from airflow_transient.core.images.spec import BakeSpec, File, image_name, image_tags, inputs
from airflow_transient.core.launch import LaunchKey, Owner
from airflow_transient.core.spec import MAX_TAGS, OUR_TAGS
from airflow_transient.errors import SpecError

GOOD: dict[str, Any] = {
    "name": "worker",
    "script": "#!/bin/bash\ntrue\n",
    "image_id": "ami-0123456789abcdef0",
    "instance_type": "t3.small",
}
#: The start of what sha256sum says of /images/worker.
PARAMETER = "cadc034c"
KEY = LaunchKey(Owner("prod", "dag", "run", "task"), "t" + "0" * 20)
BASE = "ami-0123456789abcdef0"


def spec(**words: Any) -> BakeSpec:
    return BakeSpec.of(**{**GOOD, **words})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param({"name": ""}, "name is ''", id="no name"),
        pytest.param({"name": "wörker"}, "letters, digits", id="a letter that AMI names have not"),
        pytest.param({"name": "w" * 81}, "3 to 80", id="too long for what is added"),
        pytest.param({"name": "work*"}, "letters, digits", id="a wildcard"),
        pytest.param({"script": None}, "exactly one of command and script", id="no script"),
        pytest.param({"script": "true\n"}, "no shebang", id="no shebang"),
        pytest.param({"keep_last": 0}, "at least 1", id="keep none"),
        pytest.param({"keep_last": "two"}, "whole number", id="keep no number"),
        pytest.param({"image_timeout": 10}, "from 5 minutes to 12 hours", id="no time for an image"),
        pytest.param({"copy_to_regions": ["Ireland"]}, "no region", id="no region"),
        pytest.param({"ssm_parameter": "/aws/mine"}, "not under aws", id="AWS's own parameters"),
        pytest.param({"ssm_parameter": "/a" * 200}, "256 is the most", id="a parameter that no tag holds"),
        pytest.param({"ssm_parameter": "/a//b"}, "is a name such as", id="an empty part"),
        pytest.param({"files": {"etc/x": File(b"")}}, "no full path", id="a relative place"),
        pytest.param({"files": {"/opt/../etc/x": File(b"")}}, "no full path", id="a way up"),
        pytest.param({"files": {"/opt/a\nb": File(b"")}}, "no full path", id="a line break"),
        pytest.param({"files": {"/opt/": File(b"")}}, "no full path", id="a folder"),
        pytest.param({"files": {"/tmp/x": File(b"")}}, "would not be in the image", id="gone at boot"),
        pytest.param({"files": {"/var/lib/transient/x": File(b"")}}, "would not be", id="cleaned away"),
        pytest.param({"files": {"/opt/x": File(b"0" * (1024 * 1024 + 1))}}, "is the most in all", id="too large"),
        pytest.param({"files": {f"/opt/{n}": File(b"") for n in range(201)}}, "200 is the most", id="too many"),
    ],
)
def test_what_cannot_be_made_says_why(words: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        spec(**words)


def test_the_machine_lives_until_the_image_is_whole() -> None:
    made = spec(max_runtime=600, boot_timeout=300, image_timeout=1800)
    assert made.lifetime == timedelta(seconds=600 + 300 + 1800) + timedelta(minutes=2)


def test_a_launch_may_replace_its_count() -> None:
    assert replace(spec(), count=1) == spec()


@pytest.mark.parametrize(
    ("words", "other"),
    [
        pytest.param({"script": "#!/bin/bash\nfalse\n"}, True, id="script"),
        pytest.param({"files": {"/opt/a": File(b"a")}}, True, id="a file"),
        pytest.param({"environment": {"A": "1"}}, True, id="environment"),
        pytest.param({"volume_size": 20}, True, id="volume_size"),
        pytest.param({"instance_type": "c7i.large"}, False, id="how large the builder is"),
        pytest.param({"key_name": "alice"}, False, id="who may log in to the builder: no key stays in the image"),
        pytest.param({"tags": {"team": "data"}}, False, id="tags"),
        pytest.param({"max_runtime": 60}, False, id="how long it may take"),
        pytest.param({"keep_last": 3}, False, id="keep_last"),
        pytest.param({"image_id": "ami-00000000000000001"}, False, id="how the base is named; what it is counts"),
    ],
)
def test_inputs_are_what_decides_what_is_in_the_image(words: dict[str, Any], other: bool) -> None:
    assert (inputs(spec(**words), BASE, "prod") != inputs(spec(), BASE, "prod")) is other


def test_another_base_is_another_image() -> None:
    assert inputs(spec(), BASE, "prod") != inputs(spec(), "ami-00000000000000001", "prod")


def test_another_deployment_has_its_own_image() -> None:
    """Else the one that has made it could take it away from the other."""
    assert inputs(spec(), BASE, "prod") != inputs(spec(), BASE, "dev")


def test_a_file_that_may_execute_is_another_file() -> None:
    plain, program = ({"/opt/a": File(b"a", executable)} for executable in (False, True))
    assert inputs(spec(files=plain), BASE, "prod") != inputs(spec(files=program), BASE, "prod")


def test_the_name_is_the_same_until_it_is_forced() -> None:
    assert image_name(spec(), "abc", KEY) == "worker-abc"
    assert image_name(spec(force=True), "abc", KEY) == f"worker-abc-{KEY.name}"
    assert len(image_name(spec(name="w" * 80, force=True), "0" * 16, KEY)) <= 128


def test_an_image_has_an_owner_and_no_deadline() -> None:
    tags = image_tags(spec(tags={"team": "data"}), BASE, "abc", KEY)
    assert tags["transient:owner"] == "prod/dag/run/task/-1"
    assert (tags["transient:image-family"], tags["transient:image-inputs"]) == ("worker", "abc")
    assert (tags["transient:image-source"], tags["team"], tags["Name"]) == (BASE, "data", "worker")
    assert "transient:deadline" not in tags
    published = image_tags(spec(ssm_parameter="/images/worker"), BASE, "abc", KEY)
    assert set(published.items()) - set(tags.items()) == {("transient:image-parameter-" + PARAMETER, "/images/worker")}
    assert len(published) - 1 <= OUR_TAGS
    assert len(tags) - 1 <= OUR_TAGS < MAX_TAGS


def test_a_plan_travels_as_json() -> None:
    plan = Plan("worker-abc", "worker", "abc", BASE, {"a": "b"}, ("eu-west-3",), "/p", 2, "i-1")
    assert Plan.from_dict(plan.to_dict() | {"of a later version": 1}) == plan


def test_a_member_tells_its_region_where_it_is_another() -> None:
    for region in ("eu-west-1", "eu-central-1"):
        member = member_of("ami-1", region, "eu-west-1")
        assert place_of_member(member, "eu-west-1") == ("ami-1", region)
    assert member_of("ami-1", "eu-west-1", "eu-west-1") == "ami-1"

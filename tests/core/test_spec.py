"""What can be asked for, and the sentence for whoever asks for something else."""

from datetime import timedelta

import pytest

from airflow_transient.core.ec2.spec import Ec2Spec, Image, LaunchTemplate
from airflow_transient.core.reading import duration, names, pairs, whole
from airflow_transient.core.spec import MAX_TAGS, OUR_TAGS, Pool, S3Prefix
from airflow_transient.errors import SpecError

GOOD = {"command": "true", "image_id": "ami-0123456789abcdef0", "instance_type": "t3.small"}


def spec(**words):
    return Ec2Spec.of(**GOOD | words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param({"command": None}, "exactly one of command and script", id="no job"),
        pytest.param({"script": "#!/bin/sh\n"}, "not both", id="two jobs"),
        pytest.param({"command": "  \n"}, "blank", id="blank command"),
        pytest.param({"command": []}, "blank", id="no arguments"),
        pytest.param({"command": [" "]}, "blank", id="blank program"),
        pytest.param({"command": "a\0b"}, "NUL", id="NUL byte"),
        pytest.param({"command": 7}, "text or a list", id="command is a number"),
        pytest.param({"command": None, "script": "echo hi\n"}, "no shebang", id="no shebang"),
        pytest.param({"command": None, "script": "\ufeff#!/bin/sh\n"}, "byte order mark", id="BOM"),
        pytest.param({"command": None, "script": "\n#!/bin/sh\n"}, "first line is blank", id="blank first line"),
        pytest.param({"command": None, "script": "#!bash\n"}, "full path", id="shebang without a path"),
        pytest.param({"command": None, "script": "#!\n"}, "full path", id="empty shebang"),
        pytest.param(
            {"command": None, "script": "#!/bin/bash -x exec > >(tee log) 2>&1\nyum install\n"},
            "redirect",
            id="the damaged script of an old tutorial",
        ),
        pytest.param({"image_id": None}, "which image", id="no image"),
        pytest.param({"image_id": "ubuntu"}, "not an AMI id", id="no AMI id"),
        pytest.param({"image_name": "x", "image_owners": "self"}, "not several", id="two images"),
        pytest.param({"image_id": None, "image_name": "al2023*"}, "image_owners", id="a name without owners"),
        pytest.param({"image_id": 5}, "image_id is text", id="an image that is a number"),
        pytest.param({"kill_schedule_role": "killer"}, "ARN of a role", id="a role without an ARN"),
        pytest.param({"market": "black"}, "on-demand, spot", id="no such market"),
        pytest.param({"hold_on_failure": timedelta(days=2)}, "hold_on_failure", id="held too long"),
        pytest.param({"image_owners": "self"}, "image_name", id="owners without a name"),
        pytest.param({"instance_type": None}, "which machine", id="no type"),
        pytest.param({"count": 0}, "count is 0", id="nobody"),
        pytest.param({"count": -1}, "count is -1", id="fewer than nobody"),
        pytest.param({"count": 1001}, "1 to 1000", id="a crowd"),
        pytest.param({"count": "two"}, "whole number", id="a count in words"),
        pytest.param({"count": 1.5}, "whole number", id="one and a half"),
        pytest.param({"count": True}, "whole number", id="a count that is a truth"),
        pytest.param({"max_runtime": 0}, "max_runtime", id="no time"),
        pytest.param({"max_runtime": timedelta(seconds=-5)}, "max_runtime", id="negative time"),
        pytest.param({"max_runtime": "soon"}, "number of seconds", id="time in words"),
        pytest.param({"max_runtime": timedelta(days=7)}, "7 days", id="longer than a signature lives"),
        pytest.param({"boot_timeout": 5}, "boot_timeout", id="no machine boots in 5 s"),
        pytest.param({"volume_size": 0}, "volume_size", id="no disk"),
        pytest.param({"results": "bucket/prefix"}, "s3://bucket/prefix", id="results without a scheme"),
        pytest.param({"results": "s3://B_D/x"}, "s3://bucket/prefix", id="no bucket name"),
        pytest.param({"environment": {"A B": "x"}}, "no name", id="a space in a variable"),
        pytest.param({"environment": {"TRANSIENT_INDEX": "1"}}, "TRANSIENT_", id="one of our variables"),
        pytest.param({"environment": {"A": None}}, "NoneType", id="a variable that is nothing"),
        pytest.param({"environment": "A=1"}, "is a dict", id="environment as text"),
        pytest.param({"secrets": {"A": "hunter2"}}, "looks like a value", id="a secret's value"),
        pytest.param(
            {"secrets": {"A": "/a"}, "environment": {"A": "b"}, "instance_profile": "p"}, "and in secrets", id="both"
        ),
        pytest.param({"secrets": {"A": "/a/b"}}, "instance_profile", id="secrets without a role"),
        pytest.param({"tags": {"aws:x": "1"}}, "taken", id="a tag of AWS's"),
        pytest.param({"tags": {"transient:owner": "me"}}, "taken", id="a tag of ours"),
        pytest.param({"tags": {"a": "x" * 257}}, "256", id="a long tag"),
        pytest.param({"tags": {"a" * 129: "x"}}, "1-128", id="a long name of a tag"),
        pytest.param({"environment": {"A": "x\0y"}}, "NUL byte", id="a NUL byte in a variable"),
        pytest.param(
            {"tags": {f"t{n}": "x" for n in range(37)}}, "37 tags: AWS takes 50 and ours need 14", id="too many tags"
        ),
        pytest.param({"launch_template": {"id": "lt-1", "name": "x"}}, "exactly one", id="a template twice"),
        pytest.param({"launch_template": {"nme": "x"}}, "nme", id="a misspelt template"),
        pytest.param({"associate_public_ip": "perhaps"}, "True, False", id="a maybe"),
    ],
)
def test_what_cannot_be_launched_is_refused_with_a_sentence(words, sentence):
    with pytest.raises(SpecError, match=r".*") as refusal:
        spec(**words)
    assert sentence in str(refusal.value)


def test_a_spec_error_is_a_value_error():
    with pytest.raises(ValueError, match="count"):
        spec(count=0)


def test_rendered_templates_are_taken_as_written():
    rendered = spec(count="3", max_runtime="90", associate_public_ip="False", volume_size="20", instance_type="a, b")
    assert (rendered.count, rendered.max_runtime, rendered.associate_public_ip) == (3, timedelta(seconds=90), False)
    assert (rendered.volume_size, rendered.instance_types) == (20, ("a", "b"))


def test_a_launch_template_may_bring_image_and_type():
    assert Ec2Spec.of(command="true", launch_template="nightly").launch_template == LaunchTemplate(name="nightly")
    assert LaunchTemplate.of("lt-0a").argument == {"LaunchTemplateId": "lt-0a", "Version": "$Default"}
    assert LaunchTemplate.of({"name": "n", "version": 3}).argument["Version"] == "3"


def test_pools_are_all_subnets_of_the_best_type_before_the_next():
    wanted = spec(instance_type=["a", "b"], subnet_ids=["s1", "s2"])
    assert wanted.pools() == (Pool("a", "s1"), Pool("a", "s2"), Pool("b", "s1"), Pool("b", "s2"))
    assert spec().pools() == (Pool("t3.small"),)


def test_the_deadline_leaves_room_for_boot_and_upload():
    assert spec(max_runtime=60, boot_timeout=120).lifetime == timedelta(seconds=60 + 120 + 120)


@pytest.mark.parametrize(
    ("words", "prefix"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/a/b/", "s3://bucket/a/b/"),
        ("s3://bucket/a\n", "s3://bucket/a/"),
    ],
)
def test_results_is_a_folder(words, prefix):
    assert str(S3Prefix.of(words)) == prefix


@pytest.mark.parametrize(
    "reference",
    [
        "/prod/db/password",
        "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/x",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod-AbCdEf",
        "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:x",
    ],
)
def test_a_secret_is_the_place_where_it_is_kept(reference):
    assert spec(secrets={"A": reference}, instance_profile="p").secrets == {"A": reference}


def test_as_many_and_as_long_tags_as_there_is_room_for():
    assert len(spec(tags={f"{n:0128}": "x" * 256 for n in range(MAX_TAGS - OUR_TAGS)}).tags) == 36


def test_values_of_variables_become_text_as_json_writes_them():
    assert pairs({"a": 1, "b": True, "c": "x", "d": 1.5}, "environment") == {
        "a": "1",
        "b": "true",
        "c": "x",
        "d": "1.5",
    }


def test_names_numbers_and_durations():
    assert names("a, b,,c ") == ("a", "b", "c")
    assert names(None) == ()
    assert whole("7", "n") == 7
    assert duration(1.5, "t") == timedelta(seconds=1.5)


def test_an_image_is_one_of_three_things():
    assert not Image()
    assert Image(name="al2023*", owners=("amazon",))

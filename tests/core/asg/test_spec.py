"""What may be asked of an existing group, and what is refused in a sentence."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_transient.core.asg.spec import GroupSpec
from airflow_transient.core.ec2.spec import UPLOAD_GRACE
from airflow_transient.errors import SpecError

ARN = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:0b1c:autoScalingGroupName/nightly batch"


def spec(**words: Any) -> GroupSpec:
    return GroupSpec.of(**{"group_name": "batch", **words})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param({"group_name": ""}, "which Auto Scaling group", id="no group"),
        pytest.param({"group_name": None}, "which Auto Scaling group", id="None"),
        pytest.param({"group_name": "a:b"}, "name or the ARN", id="neither name nor ARN"),
        pytest.param({"group_name": "x" * 256}, "name or the ARN", id="too long a name"),
        pytest.param({"command": "a", "script": "#!/bin/sh\nb"}, "not both", id="command and script"),
        pytest.param({"command": " "}, "blank", id="a blank command"),
        pytest.param({"script": "echo"}, "shebang", id="a script without a shebang"),
        pytest.param({"command": "a", "trust_shutdown": True}, "leaves a receipt", id="trust where there is a receipt"),
        pytest.param({"environment": {"A": "b"}}, "environment: without command or script", id="environment of nobody"),
        pytest.param({"results": "s3://bucket/p"}, "results: without command or script", id="results of nobody"),
        pytest.param({"tags": {"a": "b"}}, "tags: without command or script", id="tags of nobody"),
        pytest.param(
            {"hold_on_failure": 60}, "hold_on_failure: without command", id="held without knowing of a failure"
        ),
        pytest.param({"count": 0}, "count is 0", id="none"),
        pytest.param({"count": 1001}, "count is 1001", id="too many"),
        pytest.param({"max_runtime": 0}, "max_runtime", id="no time to run"),
        pytest.param({"boot_timeout": 5}, "boot_timeout", id="no time to boot"),
        pytest.param({"kill_schedule_role": "me"}, "kill_schedule_role", id="no role"),
        pytest.param({"trust_shutdown": "perhaps"}, "trust_shutdown is True, False", id="perhaps"),
        pytest.param({"command": "a", "secrets": {"P": "hunter2"}}, "looks like a value", id="a secret's value"),
    ],
)
def test_what_cannot_be_asked_for_says_why(words: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        spec(**words)


def test_a_group_is_named_or_told_by_its_arn() -> None:
    assert (spec().group, spec().region) == ("batch", None)
    assert (spec(group_name=ARN).group, spec(group_name=ARN).region) == ("nightly batch", "eu-west-1")


def test_words_from_templates_are_text() -> None:
    made = spec(count="3", max_runtime="600", boot_timeout="60", trust_shutdown="true")
    assert (made.count, made.trust_shutdown) == (3, True)
    assert made.lifetime == timedelta(seconds=660) + UPLOAD_GRACE


def test_secrets_take_the_role_that_the_group_gives() -> None:
    made = spec(command=["run", "it"], secrets={"P": "/path"})
    assert made.reports
    assert made.machine().secrets == {"P": "/path"}


def test_nothing_of_ours_is_readable_where_nothing_of_ours_runs() -> None:
    assert list(spec().secret_free_words()) == []
    assert ("command", "run") in list(spec(command="run").secret_free_words())


def test_there_is_one_place_to_go() -> None:
    assert [str(pool) for pool in spec().pools()] == ["Auto Scaling group batch"]

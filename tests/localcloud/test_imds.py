"""The metadata service: as pure answers, and as guests see it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from airflow_transient.localcloud import LocalCloud
from airflow_transient.localcloud.imds import Metadata, answer

from .conftest import Launcher
from .test_ec2 import TAGS, make_role

TREE = {"instance-id": "i-1", "placement/region": "eu-west-1", "iam/security-credentials/me": "{}"}
ME = Metadata(tree=TREE, identity={}, user_data=b"#!", hostname="me", token_required=True)
TTL = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
GET = "curl -sS -H X-aws-ec2-metadata-token:$T http://169.254.169.254/latest"
TOKEN = "T=$(curl -sS -X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 http://169.254.169.254/latest/api/token)\n"


def ask(path: str, metadata: Metadata = ME) -> tuple[int, bytes]:
    token = answer(metadata, "PUT", "/latest/api/token", TTL).body.decode()
    given = answer(metadata, "GET", path, {"x-aws-ec2-metadata-token": token})
    return given.status, given.body


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/latest/meta-data/instance-id", 200, b"i-1"),
        ("/latest/meta-data/", 200, b"iam/\ninstance-id\nplacement/"),
        ("/latest/meta-data/iam/security-credentials/", 200, b"me"),
        ("/latest/meta-data/spot/instance-action", 404, b""),
        ("/latest/meta-data/tags/instance/job", 404, b""),
        ("/latest/user-data", 200, b"#!"),
        ("/nowhere", 404, b""),
    ],
)
def test_paths(path: str, status: int, body: bytes) -> None:
    assert ask(path) == (status, body)


def test_version_1_is_refused_where_tokens_are_required() -> None:
    assert answer(ME, "GET", "/latest/meta-data/instance-id", {}).status == 401
    assert answer(replace(ME, token_required=False), "GET", "/latest/meta-data/instance-id", {}).status == 200


@pytest.mark.parametrize("ttl", ["", "0", "21601", "soon"])
def test_a_token_needs_a_sensible_life(ttl: str) -> None:
    headers = {"x-aws-ec2-metadata-token-ttl-seconds": ttl}
    assert answer(ME, "PUT", "/latest/api/token", headers).status == 400


def test_an_invented_token_is_refused() -> None:
    assert answer(ME, "GET", "/latest/user-data", {"x-aws-ec2-metadata-token": "mine"}).status == 401


@pytest.mark.sandbox
def test_a_guest_knows_itself(launch: Launcher) -> None:
    paths = "ami-id ami-launch-index instance-type placement/availability-zone placement/region local-ipv4 hostname mac"
    show = f"for p in instance-id {paths} tags/instance/job; do echo $p=$({GET}/meta-data/$p); done"
    spec = [{"ResourceType": "instance", "Tags": TAGS}]
    options = {"HttpTokens": "required", "InstanceMetadataTags": "enabled"}
    text = launch.run(TOKEN + show, TagSpecifications=spec, MetadataOptions=options)
    seen = dict(re.findall(r"^(\S+)=(.*)$", text, re.MULTILINE))
    assert seen["instance-id"].startswith("i-")
    assert seen["ami-id"] == launch.image
    assert (seen["ami-launch-index"], seen["instance-type"]) == ("0", "t3.micro")
    assert (seen["placement/region"], seen["placement/availability-zone"]) == ("eu-west-1", "eu-west-1a")
    assert seen["tags/instance/job"] == "nightly"
    assert seen["hostname"].startswith("ip-")
    assert seen["local-ipv4"]
    assert seen["mac"]


@pytest.mark.sandbox
def test_a_guest_is_refused_without_a_token_when_they_are_required(launch: Launcher) -> None:
    look = "curl -s -o /dev/null -w 'code %{http_code}\\n' http://169.254.169.254/latest/meta-data/instance-id"
    assert "code 401" in launch.run(look, MetadataOptions={"HttpTokens": "required"})
    assert "code 200" in launch.run(look)


@pytest.mark.sandbox
def test_a_guests_role_credentials_open_the_cloud(cloud: LocalCloud, launch: Launcher) -> None:
    make_role(cloud, "reader")
    show = f"{GET}/meta-data/iam/security-credentials/; echo; {GET}/meta-data/iam/security-credentials/reader; echo"
    text = launch.run(TOKEN + show, IamInstanceProfile={"Name": "reader"})
    keys = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    assert "\nreader\n" in text
    import boto3

    sts = boto3.client(
        "sts",
        cloud.region,
        endpoint_url=cloud.url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["Token"],
    )
    assert "assumed-role/reader/i-" in sts.get_caller_identity()["Arn"]

"""Who may put and get without credentials of his own: presigned URLs and upload forms, checked as AWS does."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud
from airflow_transient.localcloud.moto_reads import OWN_KEYS

from .conftest import Launcher

pytestmark = pytest.mark.sandbox
BOUNDARY = "b0undary"


def send(method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> tuple[int, str, bytes]:
    """Status, error code ("" when there is none), body."""
    # urllib adds a content type of its own to a body: the very one that curl --data-binary sends.
    request = urllib.request.Request(url, data=body or None, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, "", answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
        code = re.findall("<Code>(.*?)</Code>", text.decode())[0] if text.startswith(b"<?xml") else None
        return error.code, code or "", text


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    return cloud.client("s3")


def sign(s3: Any, verb: str = "put_object", key: str = "a/b", expires: int = 60, **more: Any) -> str:
    return str(s3.generate_presigned_url(verb, Params={"Bucket": "reports", "Key": key, **more}, ExpiresIn=expires))


def signed_at(cloud: LocalCloud, when: datetime, keys: Credentials, expires: int = 60) -> str:
    """As a signer would whose clock says `when`."""
    request = AWSRequest("GET", f"{cloud.url}/reports/a/b")
    signer = S3SigV4QueryAuth(keys, "s3", cloud.region, expires=expires)
    request.context["timestamp"] = when.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return f"{request.url}&X-Amz-Signature={signer.signature(text, request)}"


OWN = Credentials(OWN_KEYS.access_key, OWN_KEYS.secret_key)


# --- presigned URLs -----------------------------------------------------------------------------------------------


def test_a_presigned_put_stores_its_bytes_whatever_the_content_type(s3: Any) -> None:
    body = b"a=1&b=\xff\x00"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert send("PUT", sign(s3, key="odd name/ü+&=.txt"), body, form)[0] == 200
    assert s3.get_object(Bucket="reports", Key="odd name/ü+&=.txt")["Body"].read() == body


def test_a_presigned_get_answers_the_bytes(s3: Any) -> None:
    s3.put_object(Bucket="reports", Key="a/b", Body=b"hello")
    assert send("GET", sign(s3, "get_object")) == (200, "", b"hello")


def test_nobody_reads_or_writes_anonymously(cloud: LocalCloud) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert send(method, f"{cloud.url}/reports/a/b", b"x")[:2] == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("old", "new"),
    [("a/b", "a/c"), ("Expires=60", "Expires=600"), ("Signature=", "Signature=0"), ("reports", "other")],
)
def test_tampering_shows(s3: Any, old: str, new: str) -> None:
    assert send("PUT", sign(s3).replace(old, new, 1), b"x")[:2] == (403, "SignatureDoesNotMatch")


def test_a_url_for_get_does_not_put(s3: Any) -> None:
    assert send("PUT", sign(s3, "get_object"), b"x")[:2] == (403, "SignatureDoesNotMatch")


def test_an_expired_url_is_denied(cloud: LocalCloud) -> None:
    url = signed_at(cloud, datetime.now(timezone.utc) - timedelta(seconds=61), OWN)
    status, code, body = send("GET", url)
    assert (status, code) == (403, "AccessDenied")
    assert b"Request has expired" in body


def test_a_url_from_the_future_is_denied(cloud: LocalCloud) -> None:
    url = signed_at(cloud, datetime.now(timezone.utc) + timedelta(hours=1), OWN)
    assert send("GET", url)[:2] == (403, "AccessDenied")


def test_more_than_a_week_is_refused(s3: Any) -> None:
    assert send("GET", sign(s3, "get_object", expires=604801))[:2] == (
        400,
        "AuthorizationQueryParametersError",
    )


def test_an_unknown_key_is_told_so(cloud: LocalCloud) -> None:
    url = signed_at(cloud, datetime.now(timezone.utc), Credentials("AKIASOMEBODYELSE0000", "secret"))
    assert send("GET", url)[:2] == (403, "InvalidAccessKeyId")


def test_signature_version_2_is_refused(cloud: LocalCloud) -> None:
    keys = {"aws_access_key_id": OWN_KEYS.access_key, "aws_secret_access_key": OWN_KEYS.secret_key}
    old = boto3.client("s3", "eu-west-1", endpoint_url=cloud.url, config=Config(signature_version="s3"), **keys)
    assert send("GET", sign(old, "get_object"))[:2] == (400, "InvalidRequest")


def test_a_signature_for_another_region_than_the_buckets_is_refused(cloud: LocalCloud) -> None:
    elsewhere = cloud.client("s3", "us-east-1")
    status, code, body = send("GET", sign(elsewhere, "get_object"))
    assert (status, code) == (400, "AuthorizationQueryParametersError")
    assert b"expecting 'eu-west-1'" in body


def test_a_signed_header_must_be_sent(s3: Any) -> None:
    url = sign(s3, ServerSideEncryption="AES256")
    assert send("PUT", url, b"x")[:2] == (403, "SignatureDoesNotMatch")
    assert send("PUT", url, b"x", {"x-amz-server-side-encryption": "AES256"})[0] == 200


def test_an_amz_header_that_was_not_signed_is_denied(s3: Any) -> None:
    assert send("PUT", sign(s3), b"x", {"x-amz-acl": "public-read"})[:2] == (403, "AccessDenied")


def test_chunks_without_a_length_are_not_implemented(s3: Any) -> None:
    request = urllib.request.Request(sign(s3), data=iter([b"x"]), method="PUT")
    request.add_header("Transfer-Encoding", "chunked")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 501


def test_a_missing_bucket_is_named_so(s3: Any) -> None:
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "nowhere", "Key": "a"})
    assert send("GET", url)[:2] == (404, "NoSuchBucket")


def test_assumed_roles_sign_too(cloud: LocalCloud) -> None:
    arn = "arn:aws:iam::123456789012:role/worker"
    keys = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"]
    role = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    now = datetime.now(timezone.utc)
    assert send("GET", signed_at(cloud, now, role))[0] in (200, 404)
    assert send("GET", signed_at(cloud, now, Credentials(role.access_key, role.secret_key)))[:2] == (
        400,
        "InvalidToken",
    )


def test_curl_in_a_guest_uploads_by_url(s3: Any, launch: Launcher) -> None:
    form, file = sign(s3, key="by/form"), sign(s3, key="by/file")
    text = launch.run(
        f"head -c 3000000 /dev/zero >/tmp/big; curl -sS -w 'code %{{http_code}}\\n' -T /tmp/big '{file}'\n"
        f"curl -sS -w 'code %{{http_code}}\\n' --data-binary 'a=1&b=2' -X PUT '{form}'"
    )
    assert text.count("code 200") == 2
    assert s3.head_object(Bucket="reports", Key="by/file")["ContentLength"] == 3_000_000
    assert s3.get_object(Bucket="reports", Key="by/form")["Body"].read() == b"a=1&b=2"


def test_a_form_may_replace_what_it_uploaded(s3: Any) -> None:
    made = form(s3)
    for body in (b"one", b"two"):
        assert post(made["url"], {**made["fields"], "key": "out/same"}, body)[0] == 204
    assert s3.get_object(Bucket="reports", Key="out/same")["Body"].read() == b"two"


# --- upload forms -------------------------------------------------------------------------------------------------


def form(s3: Any, *, conditions: list[Any] | None = None, expires: int = 60, **fields: str) -> dict[str, Any]:
    limits = [*conditions, ["content-length-range", 1, 10]] if conditions else [["content-length-range", 1, 10]]
    # boto3 turns ${filename} into a starts-with; for a plain key it adds an eq.
    answer: dict[str, Any] = s3.generate_presigned_post("reports", "out/${filename}", fields, limits, expires)
    return answer


def post(url: str, fields: Mapping[str, str], file: bytes | None = b"hello") -> tuple[int, str, bytes]:
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    if file is not None:
        parts.append(b'Content-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n' + file)
    body = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return send("POST", url, body + f"--{BOUNDARY}--\r\n".encode(), headers)


def test_a_form_uploads_below_its_prefix(s3: Any) -> None:
    made = form(s3)
    assert post(made["url"], {**made["fields"], "key": "out/i-1/receipt.json"})[0] == 204
    assert s3.get_object(Bucket="reports", Key="out/i-1/receipt.json")["Body"].read() == b"hello"


def test_a_forms_filename_fills_its_key(s3: Any) -> None:
    made = form(s3)
    assert post(made["url"], {**made["fields"], "key": "out/${filename}"})[0] == 204
    assert s3.head_object(Bucket="reports", Key="out/f.txt")["ContentLength"] == 5


def test_a_form_may_ask_for_201_and_metadata(s3: Any) -> None:
    conditions = [{"success_action_status": "201"}, {"x-amz-meta-who": "me"}]
    made = form(s3, conditions=conditions, **{"success_action_status": "201", "x-amz-meta-who": "me"})
    status, _, body = post(made["url"], made["fields"])
    assert status == 201
    assert b"<Key>out/f.txt</Key>" in body
    assert s3.head_object(Bucket="reports", Key="out/f.txt")["Metadata"] == {"who": "me"}


@pytest.mark.parametrize(
    ("change", "file", "status", "code", "words"),
    [
        pytest.param({"key": "elsewhere"}, b"x", 403, "AccessDenied", "starts-with", id="outside the prefix"),
        pytest.param({"acl": "private"}, b"x", 403, "AccessDenied", "Extra input fields: acl", id="a field too many"),
        pytest.param({}, b"x" * 11, 400, "EntityTooLarge", "", id="too large"),
        pytest.param({}, b"", 400, "EntityTooSmall", "", id="too small"),
        pytest.param({"x-amz-signature": "0" * 64}, b"x", 403, "SignatureDoesNotMatch", "", id="bad signature"),
        pytest.param({"policy": "e30="}, b"x", 403, "SignatureDoesNotMatch", "", id="another policy"),
        pytest.param({"x-amz-credential": None}, b"x", 400, "InvalidArgument", "x-amz-credential", id="field missing"),
        pytest.param({"key": None}, b"x", 400, "InvalidArgument", "'key'", id="no key"),
        pytest.param({}, None, 400, "InvalidArgument", "exactly one file", id="no file"),
        pytest.param({"policy": None}, b"x", 403, "AccessDenied", "", id="no policy"),
        pytest.param({"x-ignore-this": "1"}, b"x", 204, "", "", id="ignored fields are free"),
    ],
)
def test_what_a_form_must_obey(
    s3: Any, change: dict[str, str | None], file: bytes | None, status: int, code: str, words: str
) -> None:
    made = form(s3)
    fields = {name: value for name, value in {**made["fields"], **change}.items() if value is not None}
    answered, coded, body = post(made["url"], fields, file)
    assert (answered, coded) == (status, code)
    assert words in body.decode()


def test_a_form_for_another_bucket_is_denied(s3: Any, cloud: LocalCloud) -> None:
    made = form(s3)
    status, code, body = post(f"{cloud.url}/other", made["fields"])
    assert (status, code) == (403, "AccessDenied")
    assert b"bucket" in body


def test_an_expired_form_is_denied(s3: Any) -> None:
    made = form(s3, expires=-1)
    status, code, body = post(made["url"], made["fields"])
    assert (status, code) == (403, "AccessDenied")
    assert b"Policy expired" in body


def test_fields_behind_the_file_are_ignored(s3: Any) -> None:
    made = form(s3)
    fields = {name: value for name, value in made["fields"].items() if name != "key"}
    assert post(made["url"], {**fields, "file": "early", "key": "out/x"}, None)[1] == "InvalidArgument"


def test_a_form_for_a_missing_bucket_says_so(s3: Any) -> None:
    made = s3.generate_presigned_post("nowhere", "out/x")
    assert post(made["url"], made["fields"])[:2] == (404, "NoSuchBucket")


def test_a_forms_policy_is_what_boto3_made(s3: Any) -> None:
    policy = json.loads(base64.b64decode(form(s3)["fields"]["policy"]))
    assert ["starts-with", "$key", "out/"] in policy["conditions"]


def test_header_signed_requests_pass(s3: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="reports", Key="never/was")

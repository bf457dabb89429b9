"""What a job leaves behind about its own end, in S3: the signed form it reports through, and reading it back.

SigV4, the bucket's own region and its regional endpoint: boto3's defaults signed with SigV2 on the global host for
us-east-1 and eu-west-1, which buckets under SSE-KMS refuse.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import FAILURES, ClientFactory, code_of, said_plainly, status_of, words_of
from airflow_transient.core.ec2.bootscript import ReportForm
from airflow_transient.core.ec2.receipts import RESULT_LIMIT
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import AccessError, LaunchError, SpecError, TransientError

#: The largest object a member may leave; S3 takes 5 GB by POST. Our own reads are bounded one by one.
OBJECT_LIMIT = 5 * 1000**3
SIGNING = {
    "signature_version": "s3v4",
    "s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
}


@dataclass(frozen=True)
class Read:
    """One object, looked for. `known` is False where the look failed: then `data` says nothing."""

    data: bytes | None
    known: bool = True
    note: str | None = None


class ReceiptBox:
    """
    The receipts of one launch: a prefix in a bucket.

    :param regions: bucket -> its region, of boxes that share what is known: it is asked for once.
    """

    def __init__(self, client: ClientFactory, place: S3Prefix, regions: dict[str, str] | None = None) -> None:
        self._client = client
        self.place = place
        self._regions = {} if regions is None else regions

    def region(self) -> str:
        """The bucket's own region. Raises SpecError where there is no such bucket, AccessError where it is closed."""
        bucket = self.place.bucket
        if bucket not in self._regions:
            self._regions[bucket] = self._look_up_region()
        return self._regions[bucket]

    def _look_up_region(self) -> str:
        s3 = self._client("s3")
        bucket = self.place.bucket
        try:
            with said_plainly("s3:ListBucket"):
                answer = s3.head_bucket(Bucket=bucket)
            return str(answer.get("BucketRegion") or s3.meta.region_name)
        except (SpecError, AccessError, LaunchError) as error:
            cause = error.__cause__
            status = status_of(cause) if isinstance(cause, ClientError) else None
            if status == 404:
                raise SpecError(f"results: there is no bucket {bucket!r}") from error
            headers = cause.response["ResponseMetadata"]["HTTPHeaders"] if isinstance(cause, ClientError) else {}
            if status in (301, 403) and (region := headers.get("x-amz-bucket-region")):
                return str(region)  # without s3:ListBucket the answer is 403 and still names the region
            if status == 403:
                raise AccessError(f"results: access to bucket {bucket!r} is forbidden") from error
            raise

    def form(self, lifetime: timedelta) -> ReportForm:
        """A presigned POST for every key under the prefix."""
        s3 = self._client("s3", region_name=self.region(), **SIGNING)
        prefix = self.place.prefix
        with said_plainly("s3:PutObject"):
            signed = s3.generate_presigned_post(
                self.place.bucket,
                prefix + "${filename}",
                Conditions=[["starts-with", "$key", prefix], ["content-length-range", 0, OBJECT_LIMIT]],
                ExpiresIn=int(lifetime.total_seconds()),
            )
        return ReportForm(signed["url"], signed["fields"], self.place.bucket, prefix)

    def preflight(self, form: ReportForm, said: Mapping[str, Any]) -> None:
        """Leave the launch's first object through the signed form itself: what works now will work on the machine."""
        body, kind = _multipart({**form.fields, "key": form.prefix + "launch.json"}, json.dumps(said).encode())
        # S310: the URL is the one boto3 has just made for the connection's endpoint.
        request = urllib.request.Request(form.url, body, {"Content-Type": kind}, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            answer = error.read(2000).decode(errors="replace")
            fault = AccessError if error.code == 403 else SpecError if error.code in (400, 404) else LaunchError
            raise fault(
                f"results: writing to {self.place} was refused with HTTP {error.code}: s3:PutObject on "
                f"{self.place}* is needed ({_code_in(answer)})"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise LaunchError(f"results: {form.url} cannot be reached: {error}") from error

    def keep_script(self, script: str, lifetime: timedelta) -> str:
        """Put a boot script that is too long for user data beside the receipts; a URL that fetches it."""
        s3 = self._client("s3", region_name=self.region(), **SIGNING)
        where = {"Bucket": self.place.bucket, "Key": self.place.prefix + "boot.sh"}
        with said_plainly("s3:PutObject"):
            s3.put_object(**where, Body=script.encode())
        url: str = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=int(lifetime.total_seconds()))
        return url

    def members(self) -> tuple[str, ...]:
        """Who has left anything here."""
        try:
            s3 = self._client("s3", region_name=self.region())
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.place.bucket, Prefix=self.place.prefix, Delimiter="/"
            )
            folders = [found["Prefix"] for page in pages for found in page.get("CommonPrefixes", ())]
        except (*FAILURES, TransientError, OSError):
            return ()
        return tuple(folder.removeprefix(self.place.prefix).strip("/") for folder in folders)

    def read(self, member: str, name: str, limit: int = RESULT_LIMIT) -> Read:
        """One object of one member. A 403 is not "no such object": without s3:ListBucket S3 says 403 for both."""
        key = f"{self.place.prefix}{member}/{name}"
        try:
            answer = self._client("s3", region_name=self.region()).get_object(Bucket=self.place.bucket, Key=key)
            return Read(answer["Body"].read(limit + 1))
        except (*FAILURES, TransientError, OSError) as error:
            if code_of(error) in ("NoSuchKey", "404"):
                return Read(None)
            return Read(None, known=False, note=f"s3://{self.place.bucket}/{key}: {words_of(error)}")


def _code_in(answer: str) -> str:
    return answer.split("<Code>")[1].split("</Code>")[0] if "<Code>" in answer else answer[:80] or "no reason given"


def _multipart(fields: Mapping[str, str], file: bytes) -> tuple[bytes, str]:
    edge = uuid.uuid4().hex
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()
    ]
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
    return b"".join([*parts, head, file, f"\r\n--{edge}--\r\n".encode()]), f"multipart/form-data; boundary={edge}"

"""One S3 object that several may write: read with its ETag, and replaced only where that is still there.

S3 answers a conditional write with 412 where the condition does not hold, with 404 where If-Match finds no object, and
with 409 ConditionalRequestConflict where another write is under way: look and ask again (PutObject, API reference). A
write whose answer was lost and that is sent again meets itself, and is told 412.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from airflow_transient.aws.launcher import code_of, said_plainly, status_of
from airflow_transient.errors import AccessError

#: A DAG file that is imported for longer than 30 s is given up (Airflow's default); two tries and more have to fit in.
PATIENCE: dict[str, Any] = {
    "connect_timeout": 2,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
#: Errors of PutObject -> what they say of a conditional write.
_TOLD = {
    "ConditionalRequestConflict": "BUSY",
    "PreconditionFailed": "OTHER",
    "NoSuchKey": "OTHER",
}


@dataclass(frozen=True)
class Found:
    data: bytes
    etag: str


class Written(Enum):
    DONE = "done"
    OTHER = "another one is there, or none any more"
    BUSY = "another write is under way"
    UNTOLD = "no clear answer: it may have been written"


@dataclass(frozen=True)
class Place:
    """A key and its neighbours, whose names begin with it. `s3`: a boto3 client. Refusals come as errors of ours."""

    s3: Any
    bucket: str
    key: str

    def read(self, suffix: str = "") -> Found | None:
        """None where there is none. Without s3:ListBucket S3 does not tell that from what is forbidden."""
        try:
            with said_plainly("s3:GetObject"):
                try:
                    answer = self.s3.get_object(Bucket=self.bucket, Key=self.key + suffix)
                except self.s3.exceptions.NoSuchKey:
                    return None
                return Found(answer["Body"].read(), answer["ETag"])
        except AccessError as error:
            raise AccessError(f"{error}; so is s3:ListBucket, to tell what is not there from what is closed") from error

    def write(self, data: bytes, over: str | None) -> Written:
        """
        Replace the object, or say what came in between.

        :param over: the ETag that has to be there; None: no object may be there.
        """
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}
        with said_plainly("s3:PutObject"):
            try:
                self._put(self.key, data, condition)
            except ClientError as error:
                if (told := _told(error)) is None:
                    raise
                return told
            except (HTTPClientError, ResponseParserError):
                return Written.UNTOLD
        return Written.DONE

    def keep(self, data: bytes, suffix: str) -> None:
        with said_plainly("s3:PutObject"):
            self._put(self.key + suffix, data, {})

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType="application/json", **condition)

    def suffixes(self) -> list[str]:
        """How the names of its neighbours go on; a thousand at most."""
        with said_plainly("s3:ListBucket"):
            answer = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.key}.")
        return [item["Key"].removeprefix(self.key) for item in answer.get("Contents", ())]

    def forget(self, suffixes: Iterable[str]) -> None:
        for suffix in suffixes:
            with said_plainly("s3:DeleteObject"):
                self.s3.delete_object(Bucket=self.bucket, Key=self.key + suffix)


def _told(error: ClientError) -> Written | None:
    """None: a refusal that has nothing to do with the condition."""
    if name := _TOLD.get(code_of(error) or ""):
        return Written[name]
    return Written.UNTOLD if (status_of(error) or 0) >= 500 else None

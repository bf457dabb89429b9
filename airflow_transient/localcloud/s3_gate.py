"""The door in front of moto's S3: who may come in without signing in a header, and in what shape they go on.

Presigned URLs and upload forms are verified, everything else unsigned is refused. Requests signed in their
Authorization header (boto3's, the aws CLI's) pass unverified.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, quote
from xml.sax.saxutils import escape

from airflow_transient.localcloud import post_policy, signatures
from airflow_transient.localcloud.errors import Refused

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
FORM = "application/x-www-form-urlencoded"
# moto lets nobody overwrite a private object unless this word is in the address.
VERIFIED = "X-Amz-Signature=verified"
# Fields of an upload form that are headers of the same upload as a PUT.
HEADER_FIELDS = ("cache-control", "content-disposition", "content-encoding", "expires")
CHUNKED = "A header you provided implies functionality that is not implemented"


@dataclass(frozen=True)
class S3Gate:
    """region_of(bucket): where it lives, or None when there is no such bucket."""

    inner: Wsgi
    keyring: signatures.Keyring
    region_of: Callable[[str], str | None]

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not is_unsigned_s3(environ):
            return self.inner(environ, start_response)
        try:
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = _read_body(environ)
            return self._admit(environ)(environ, start_response)
        except Refused as refusal:
            return refuse(refusal, environ, start_response)

    def _admit(self, environ: Environ) -> Wsgi:
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if any(name.startswith("X-Amz-") for name in query):
            self._check_url(environ)
            return self.inner
        if "AWSAccessKeyId" in query and "Signature" in query:
            raise Refused("InvalidRequest", signatures.VERSION_4_ONLY)
        if environ["REQUEST_METHOD"] == "POST" and environ.get("CONTENT_TYPE", "").startswith("multipart/form-data"):
            return self._admit_form(environ)
        raise Refused("AccessDenied", "Access Denied", 403)

    def _check_url(self, environ: Environ) -> None:
        path = environ.get("REQUEST_URI") or environ["RAW_URI"]
        url = f"http://{environ['HTTP_HOST']}{path}"
        now = datetime.now(timezone.utc)
        _, scope = signatures.check_url(environ["REQUEST_METHOD"], url, _headers(environ), self.keyring, now)
        region = self.region_of(environ["PATH_INFO"].lstrip("/").partition("/")[0])
        if region is not None and region != scope.region:
            message = f"Error parsing the X-Amz-Credential parameter; the region '{scope.region}' is wrong;"
            raise Refused("AuthorizationQueryParametersError", f"{message} expecting '{region}'")
        if environ.get("CONTENT_TYPE", "").startswith(FORM):
            # What `curl --data-binary` sends. moto reads such a body as a form and stores nothing.
            environ["CONTENT_TYPE"] = "binary/octet-stream"

    def _admit_form(self, environ: Environ) -> Wsgi:
        form = read_form(environ)
        post_policy.check(form, self.keyring, datetime.now(timezone.utc))
        if self.region_of(form.bucket) is None:
            raise Refused("NoSuchBucket", "The specified bucket does not exist", 404)
        _turn_into_put(environ, form)
        return lambda environ, start: self._store(environ, start, form)

    def _store(self, environ: Environ, start_response: Callable[..., Any], form: post_policy.Form) -> Iterable[bytes]:
        """PUT it, and answer as a form expects: 204, or what success_action_status asks for."""
        answers: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(self.inner(environ, lambda status, headers, exc=None: answers.append((status, headers))))
        status, headers = answers[0]
        if not status.startswith("200"):
            start_response(status, headers)
            return [body]
        etag = {name.lower(): value for name, value in headers}.get("etag", "")
        location = f"http://{environ['HTTP_HOST']}/{form.bucket}/{quote(form.key)}"
        wanted = form.fields.get("success_action_status", "204")
        status = {"200": "200 OK", "201": "201 Created"}.get(wanted, "204 No Content")
        text = _created(location, form, etag) if wanted == "201" else b""
        given = [("ETag", etag), ("Location", location)]
        given += [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))] if wanted == "201" else []
        start_response(status, given)
        return [text]


def is_unsigned_s3(environ: Environ) -> bool:
    """S3 is what moto takes everything for that names no other service."""
    path = environ.get("PATH_INFO", "/")
    query = environ.get("QUERY_STRING", "")
    if "HTTP_AUTHORIZATION" in environ or "HTTP_X_AMZ_TARGET" in environ or environ["REQUEST_METHOD"] == "OPTIONS":
        return False
    if path.startswith(("/moto-api", "/favicon.ico")):
        return False
    # Query-protocol services (STS, SQS, ...) take forms at the root, or presign for another service than s3.
    return not (path == "/" and ("Action=" in query or environ.get("CONTENT_TYPE", "").startswith(FORM)))


def _read_body(environ: Environ) -> tuple[io.BytesIO, str]:
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
        raise Refused("NotImplemented", f"{CHUNKED}: Transfer-Encoding (S3 wants a Content-Length)", 501)
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return io.BytesIO(environ["wsgi.input"].read(length)), str(length)


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = str(environ[name])
    return headers


def read_form(environ: Environ) -> post_policy.Form:
    """Fields in order up to the file; S3 ignores what stands behind it."""
    from werkzeug.http import parse_options_header
    from werkzeug.sansio.multipart import Data, Field, File, MultipartDecoder

    _, options = parse_options_header(environ["CONTENT_TYPE"])
    decoder = MultipartDecoder(options.get("boundary", "").encode(), max_form_memory_size=None)
    parts: list[tuple[Any, bytearray]] = []
    try:
        decoder.receive_data(environ["wsgi.input"].read())
        decoder.receive_data(None)
        for event in iter(decoder.next_event, None):
            if isinstance(event, (Field, File)):
                parts.append((event, bytearray()))
            elif isinstance(event, Data):
                parts[-1][1].extend(event.data)
            elif type(event).__name__ in ("Epilogue", "NeedData"):
                break
    except ValueError as error:
        raise Refused("MalformedPOSTRequest", f"The body of your POST request is not well-formed: {error}") from None
    return _form(environ["PATH_INFO"].strip("/"), parts)


def _form(bucket: str, parts: list[tuple[Any, bytearray]]) -> post_policy.Form:
    fields: dict[str, str] = {}
    for part, data in parts:
        if part.name == "file":
            filename = getattr(part, "filename", "") or ""
            return post_policy.Form(bucket, fields, bytes(data), filename.replace("\\", "/").rsplit("/", 1)[-1])
        fields[part.name.lower()] = bytes(data).decode("utf-8", "replace")
    return post_policy.Form(bucket, fields, None)


def _turn_into_put(environ: Environ, form: post_policy.Form) -> None:
    """moto's own form handling loses metadata and status; its PUT does not."""
    path = f"/{form.bucket}/{form.key}"
    uri = f"{quote(path)}?{VERIFIED}"
    file = form.file or b""
    environ.update(
        REQUEST_METHOD="PUT",
        PATH_INFO=path.encode().decode("latin-1"),
        RAW_URI=uri,
        REQUEST_URI=uri,
        QUERY_STRING=VERIFIED,
        CONTENT_TYPE=form.fields.get("content-type", "binary/octet-stream"),
        CONTENT_LENGTH=str(len(file)),
    )
    environ["wsgi.input"] = io.BytesIO(file)
    for name, value in form.fields.items():
        if name in HEADER_FIELDS or name.startswith(("x-amz-meta-", "x-amz-server-side", "x-amz-storage")):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    if "acl" in form.fields:
        environ["HTTP_X_AMZ_ACL"] = form.fields["acl"]


def _created(location: str, form: post_policy.Form, etag: str) -> bytes:
    named = {"Location": location, "Bucket": form.bucket, "Key": form.key, "ETag": etag}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in named.items())
    return f"{XML}<PostResponse>{inner}</PostResponse>".encode()


def refuse(refusal: Refused, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    inner = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
    body = f"{XML}<Error>{inner}<RequestId>LOCALCLOUD</RequestId></Error>".encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start_response(f"{refusal.status} {refusal.code}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

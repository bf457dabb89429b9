"""What cloud-init would run, by table; each row was tried on genuine cloud-init 22.4.2."""

from __future__ import annotations

import base64
import gzip

import pytest

from airflow_transient.localcloud.userdata import orders

SCRIPT = b"#!/bin/bash\necho hello\n"


@pytest.mark.parametrize(
    ("user_data", "script"),
    [
        pytest.param(SCRIPT, SCRIPT, id="a script runs"),
        pytest.param(b"#! /bin/sh\n:\n", b"#! /bin/sh\n:\n", id="a blank after the bang is fine"),
        pytest.param(gzip.compress(SCRIPT), SCRIPT, id="gzip is unpacked"),
        pytest.param(SCRIPT.replace(b"\n", b"\r\n"), SCRIPT, id="carriage returns are taken out"),
        pytest.param(b"", None, id="nothing idles"),
        pytest.param(b"echo hello\n", None, id="no shebang"),
        pytest.param(b"\xef\xbb\xbf" + SCRIPT, None, id="byte order mark"),
        pytest.param(b"\n" + SCRIPT, None, id="blank first line"),
        pytest.param(base64.b64encode(SCRIPT), None, id="base64 twice"),
        pytest.param(b"#cloud-config\nruncmd: [ls]\n", None, id="cloud-config"),
        pytest.param(b"Content-Type: multipart/mixed\n", None, id="MIME multipart"),
        pytest.param(b"\x1f\x8bbroken", None, id="broken gzip"),
    ],
)
def test_what_runs(user_data: bytes, script: bytes | None) -> None:
    assert orders(user_data).script == script


def test_ignored_user_data_leaves_cloud_inits_own_words() -> None:
    assert "Unhandled non-multipart (text/x-not-multipart) userdata" in orders(b"echo hello").words


def test_what_only_real_cloud_init_runs_is_said() -> None:
    assert "#cloud-config, which only real cloud-init runs" in orders(b"#cloud-config\n").words

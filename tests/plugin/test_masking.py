"""Secrets in environments are shown to nobody, and survive being sent back as they were shown."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_transient.plugin import masking
from tests.plugin.conftest import Asker

pytestmark = pytest.mark.airflow

SECRET = "correct-horse-battery"


def job(environment: dict[str, str]) -> dict[str, Any]:
    overrides = [{"containerName": "c", "environment": environment}]
    return {"taskDefinition": "mine", "schedule": "0 0 4", "overrides": overrides}


def environment_of(document: Any) -> Any:
    return document["overrides"][0]["environment"]


@pytest.mark.parametrize("path", ["/jobs/mine", "/jobs"])
def test_a_value_is_hidden_by_its_name(ask: Asker, path: str) -> None:
    ask.post("/jobs", json=job({"DB_PASSWORD": SECRET, "SLEEP_SECONDS": "10"}))
    answer = ask.get(path)
    assert SECRET not in answer.text
    shown = answer.json() if path == "/jobs/mine" else answer.json()["jobs"][0]
    assert environment_of(shown) == {"DB_PASSWORD": "***", "SLEEP_SECONDS": "10"}


@pytest.mark.parametrize("masker", ["airflow._shared", "airflow.sdk._shared"])
def test_a_value_is_hidden_where_this_process_knows_it_for_a_secret(ask: Asker, masker: str) -> None:
    from importlib import import_module

    secrets_masker = import_module(f"{masker}.secrets_masker")
    secrets_masker.mask_secret(SECRET)
    try:
        ask.post("/jobs", json=job({"URL": f"postgres://me:{SECRET}@db"}))
        assert environment_of(ask.get("/jobs/mine").json()) == {"URL": "postgres://me:***@db"}
        patch = {"overrides": ask.get("/jobs/mine").json()["overrides"], "taskCount": 2}
        assert ask.put("/jobs/mine", json=patch).status_code == 200
    finally:
        secrets_masker.reset_secrets_masker()
    assert environment_of(ask.get("/jobs/mine").json()) == {"URL": f"postgres://me:{SECRET}@db"}


def test_what_was_shown_masked_may_be_sent_back(ask: Asker, service: Any) -> None:
    ask.post("/jobs", json=job({"DB_PASSWORD": SECRET, "SLEEP_SECONDS": "10"}))
    shown = ask.get("/jobs/mine").json()
    environment_of(shown)["SLEEP_SECONDS"] = "20"
    assert ask.put("/jobs/mine", json={"overrides": shown["overrides"]}).status_code == 200
    stored = service.get("mine").document
    assert environment_of(stored) == {"DB_PASSWORD": SECRET, "SLEEP_SECONDS": "20"}


def test_a_new_job_is_not_given_asterisks_for_a_password(ask: Asker) -> None:
    assert ask.post("/jobs", json=job({"DB_PASSWORD": "***"})).status_code == 400


def test_a_refusal_does_not_repeat_a_secret() -> None:
    body = job({"DB_PASSWORD": SECRET, "NAME": "not-secret", "TOKEN": "abc"})
    messages = {"overrides": {"0": [f"{SECRET} and not-secret are wrong, abc too"]}, "count": [f"not {SECRET}"]}
    assert masking.without_secrets(messages, body) == {
        "overrides": {"0": ["*** and not-secret are wrong, abc too"]},
        "count": ["not ***"],
    }


def test_parameter_names_and_tags_are_no_secrets() -> None:
    document = {
        "environment": {"API_TOKEN": SECRET},
        "secrets": {"API_TOKEN": "/prod/api/token"},
        "tags": {"token": "yes"},
        "keyName": "my-key",
    }
    assert masking.told(document) == {**document, "environment": {"API_TOKEN": "***"}}

"""What the API says about itself."""

from __future__ import annotations

import json
import re

import pytest

from tests.plugin.conftest import Asker

pytestmark = pytest.mark.airflow


def test_the_spec_names_every_route(ask: Asker) -> None:
    paths = ask.get("/spec").json()["paths"]
    assert {method.upper() for method in paths["/jobs/{id}"]} == {"GET", "PUT", "DELETE"}
    assert {"/jobs", "/jobs/preview", "/jobs/{id}/next", "/jobs/{id}/run", "/spec", "/"} <= set(paths)


def test_the_spec_s_references_all_lead_somewhere(ask: Asker) -> None:
    spec = ask.get("/spec").json()
    for found in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(spec))):
        here = spec
        for part in found.split("/"):
            here = here[part]


def test_the_spec_s_schemas_are_the_models_(ask: Asker) -> None:
    schemas = ask.get("/spec").json()["components"]["schemas"]
    assert schemas["Job"]["required"] == ["schedule"]
    assert {"taskDefinition", "scheduleEnd", "capacityProviders", "imageSsmParameter"} <= set(
        schemas["Job"]["properties"]
    )
    assert schemas["Job"]["additionalProperties"] is False
    assert "required" not in schemas["JobUpdate"]
    assert not {"id", "kind"} & set(schemas["JobUpdate"]["properties"])


def test_the_spec_says_where_it_is_served(ask: Asker) -> None:
    assert ask.get("/spec").json()["servers"] == [{"url": "/transient"}]

"""What stands in front of every route, asked through Airflow's own API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.routing import Route

from airflow_transient.plugin import access, guard
from airflow_transient.plugin.guard import Guard
from tests.plugin.conftest import Asker, token

pytestmark = pytest.mark.airflow

JOB = {"taskDefinition": "mine", "schedule": "0 0 4"}
JSON = {"Content-Type": "application/json"}
EVIL = {"Origin": "http://evil.example"}


def with_cookie(value: str) -> dict[str, str]:
    return {"Cookie": f"_token={value}"}


def expired() -> str:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    someone = SimpleAuthManagerUser(username="a", role="admin", teams=None)
    return get_auth_manager().generate_jwt(someone, expiration_time_in_seconds=-60)


# --- who asks


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/x", "/jobs/x/next", "/jobs/x/run", "/spec", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "BREW"])
def test_nobody_gets_in_without_signing_in(server: Any, service: Any, method: str, path: str) -> None:
    answer = server.request(method, f"/transient{path}")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (
        answer.text == ""
        if method == "HEAD"
        else answer.json() == {"message": "Not authenticated: sign in to Airflow."}
    )


def test_what_airflow_answers_to_a_token_that_is_over(server: Any, service: Any) -> None:
    """401 in Airflow's API and here; to one that it cannot read it answers 403, and this 401."""
    over, broken = {"Authorization": f"Bearer {expired()}"}, {"Authorization": "Bearer broken"}
    assert server.get("/api/v2/dags", headers=over).status_code == 401
    assert server.get("/api/v2/dags", headers=broken).status_code == 403
    assert server.get("/transient/jobs", headers=over).json() == {"message": "Token Expired: sign in to Airflow."}
    assert server.get("/transient/jobs", headers=broken).status_code == 401


def test_a_cookie_is_as_good_as_a_token(server: Any, service: Any) -> None:
    assert server.get("/transient/jobs", headers=with_cookie(token("viewer"))).status_code == 200


@pytest.mark.parametrize("value", ["", "broken", "expired"])
def test_a_bad_cookie_is_none(server: Any, service: Any, value: str) -> None:
    cookie = with_cookie(expired() if value == "expired" else value)
    assert server.get("/transient/jobs", headers=cookie).status_code == 401


def test_a_token_comes_before_a_cookie(server: Any, service: Any) -> None:
    both = {"Authorization": f"Bearer {token('viewer')}", **with_cookie(token("admin"))}
    assert server.post("/transient/jobs", headers=both, json=JOB).status_code == 403
    broken = {"Authorization": "Bearer broken", **with_cookie(token("admin"))}
    assert server.get("/transient/jobs", headers=broken).status_code == 401


def test_a_token_that_was_revoked_is_over(server: Any, service: Any) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    mine = token("admin")
    get_auth_manager().revoke_token(mine)
    assert server.get("/transient/jobs", headers={"Authorization": f"Bearer {mine}"}).status_code == 401


# --- other sites


@pytest.mark.parametrize(
    ("headers", "in_"),
    [
        pytest.param({}, True, id="no browser"),
        pytest.param({"Origin": "http://airflow.test"}, True, id="this origin"),
        pytest.param({"Origin": "https://airflow.test"}, True, id="behind a proxy that ends TLS"),
        pytest.param({"Origin": "http://airflow.test", "Host": "10.0.0.7:8080"}, True, id="base_url's origin"),
        pytest.param({"Origin": "http://10.0.0.7:8080", "Host": "10.0.0.7:8080"}, True, id="another name of it"),
        pytest.param({"Origin": "http://x", "Sec-Fetch-Site": "same-origin"}, True, id="the browser vouches for it"),
        pytest.param({"Sec-Fetch-Site": "none"}, True, id="typed by a person"),
        pytest.param(EVIL, False, id="another origin"),
        pytest.param({"Origin": "null"}, False, id="an origin that is hidden"),
        pytest.param({"Origin": "http://airflow.test:81"}, False, id="another port"),
        pytest.param({"Origin": "http://airflow.test.evil.example"}, False, id="a name that begins alike"),
        pytest.param({"Origin": "http://sub.airflow.test"}, False, id="a name below it"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, False, id="the browser says another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, False, id="the browser says a sibling"),
        pytest.param(
            {"Origin": "http://airflow.test", "Sec-Fetch-Site": "cross-site"}, False, id="the browser knows better"
        ),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/jobs", JOB, 201),
        ("PUT", "/jobs/old", {"taskCount": 2}, 200),
        ("POST", "/jobs/old/run", None, 202),
        ("DELETE", "/jobs/old", None, 200),
    ],
)
def test_a_cookie_changes_nothing_for_other_sites(
    server: Any, ask: Asker, headers: dict[str, str], in_: bool, method: str, path: str, body: Any, status: int
) -> None:
    ask.post("/jobs", json={**JOB, "id": "old"})
    sent = {**headers, **with_cookie(token("admin"))}
    answer = server.request(method, f"/transient{path}", json=body, headers=sent)
    assert answer.status_code == (status if in_ else 403)
    if not in_:
        assert "another site" in answer.json()["message"]
        assert [job["id"] for job in ask.get("/jobs").json()["jobs"]] == ["old"]


def test_reading_is_left_to_the_browser_s_own_rules(server: Any, service: Any) -> None:
    answer = server.get("/transient/jobs", headers={**EVIL, **with_cookie(token("admin"))})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_token_is_no_browser_s_doing(ask: Asker) -> None:
    assert ask.post("/jobs", json=JOB, headers=EVIL).status_code == 201


def test_where_everyone_is_admin_a_token_proves_nothing(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow then adds one to every request, whoever made the browser send it."""
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
    assert ask.post("/jobs", json=JOB, headers=EVIL).status_code == 403
    assert ask.post("/jobs", json=JOB).status_code == 201


def test_sites_that_airflow_trusts_are_trusted_here(server: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__ACCESS_CONTROL_ALLOW_ORIGINS", "http://evil.example,http://b.example")
    sent = {**EVIL, "Sec-Fetch-Site": "cross-site", **with_cookie(token("admin"))}
    assert server.post("/transient/jobs", json=JOB, headers=sent).status_code == 201


# --- which routes there are


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/spec", "GET, HEAD, OPTIONS"),
        ("/jobs", "GET, HEAD, OPTIONS, POST"),
        ("/jobs/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/jobs/x/next", "GET, HEAD, OPTIONS"),
        ("/jobs/x/run", "OPTIONS, POST"),
        ("/jobs/preview", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
    ],
)
def test_options_and_405_name_all_methods(ask: Asker, path: str, methods: str) -> None:
    options = ask("OPTIONS", path)
    assert (options.status_code, options.headers["Allow"], options.text) == (200, methods, "")
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} - set(methods.split(", ")):
        answer = ask(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)
        assert answer.json() == {"message": "The method is not allowed for the requested URL."}


@pytest.mark.parametrize(
    "path",
    ["/jobs/", "/jobs/x/", "/jobs/x/y", "/jobs/x/run/", "/nowhere", "//jobs", "/docs", "/redoc", "/openapi.json"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_url_is_not_found_and_never_redirected(ask: Asker, method: str, path: str) -> None:
    answer = ask(method, path)
    assert answer.status_code == 404
    assert answer.json()["message"].startswith("The requested URL was not found on the server.")


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/mine", "/spec", "/page"])
def test_head_is_get_without_its_body(ask: Asker, path: str) -> None:
    ask.post("/jobs", json=JOB)
    got, head = (ask(method, path, headers={"Accept-Encoding": "identity"}) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers.get(name) == got.headers.get(name)


def test_head_of_what_is_missing_is_a_404_without_a_body(ask: Asker) -> None:
    answer = ask("HEAD", "/jobs/nowhere")
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize("path", ["/page", "/static/icon.svg"])
def test_the_page_is_public_and_holds_no_data(server: Any, service: Any, path: str) -> None:
    assert server.get(f"/transient{path}").status_code == 200
    assert server.post(f"/transient{path}").status_code == 405


@pytest.mark.parametrize(
    "path",
    ["/static/../jobs", "/static/..%2fjobs", "/static/%2e%2e/jobs", "/static/../page.py", "/static/..%2fpage.py",
     "/static/", "/static", "/page/", "/page/../jobs", "/pagejobs", "/static%0A/jobs"],
)  # fmt: skip
def test_the_public_part_has_no_back_door(server: Any, service: Any, path: str) -> None:
    assert server.get(f"/transient{path}").status_code in {401, 404}


@pytest.mark.parametrize("path", ["/jobs", "/page", "/static/icon.svg", "/nowhere"])
def test_every_answer_keeps_other_hosts_out(ask: Asker, path: str) -> None:
    headers = ask.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_websocket_is_closed(server: Any, service: Any) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), server.websocket_connect("/transient/jobs"):
        pass


# --- who reads slowly


def test_who_is_slow_to_read_an_answer_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a thousand jobs is more than a connection takes at once."""

    async def somebody(scope: Any) -> access.Who:
        return access.Who(user=None)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    async def ask_more_than_there_are_places() -> int:
        guarded, stuck, begun = Guard(app, [Route("/jobs", app)]), asyncio.Event(), 0

        async def slow_reader(message: Any) -> None:
            nonlocal begun
            begun += message["type"] == "http.response.start"
            if message["type"] == "http.response.body":
                await stuck.wait()

        scope = {"type": "http", "method": "GET", "path": "/jobs", "root_path": "", "headers": [], "query_string": b""}
        asked = [
            asyncio.create_task(guarded(dict(scope), None, slow_reader))  # type: ignore[arg-type]
            for _ in range(guard.AT_A_TIME + 1)
        ]
        for _ in range(100):
            await asyncio.sleep(0)
        stuck.set()
        await asyncio.gather(*asked)
        return begun

    monkeypatch.setattr(access, "sign_in", somebody)
    monkeypatch.setattr(guard, "AT_A_TIME", 2)
    assert asyncio.run(ask_more_than_there_are_places()) == 3

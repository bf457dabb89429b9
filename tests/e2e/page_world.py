"""What the page's tests stand in: an Airflow furnished as `make up` does, and a browser on Airflow's own pages."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Frame, Page, Request, sync_playwright

from airflow_transient.localcloud import LocalCloud
from tests.e2e.serving import generated_password, serving

from _furniture import events, example_job, furnish  # isort: skip - the scripts are no package; serving finds them

CHROMIUM = shutil.which("chromium")
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: Of what the page shows after something has happened in the cloud: its next look, and Airflow's own pace.
SOON = 30_000
SLEEPER = "sleeper"


@dataclass(frozen=True)
class World:
    """An Airflow that runs, and the local cloud it knows."""

    url: str
    password: str
    cloud: dict[str, str]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.cloud["AWS_ENDPOINT_URL"],
            region_name=self.cloud["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.cloud["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.cloud["AWS_SECRET_ACCESS_KEY"],
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """As somebody else would, without a browser."""
        return self._ask(method, path, body, self._token)

    @cached_property
    def _token(self) -> str:
        login = {"username": "admin", "password": self.password}
        return str(self._ask("POST", "/auth/token", login)["access_token"])

    def _ask(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def jobs(self) -> dict[str, Any]:
        return {job["id"]: job for job in self.ask("GET", "/transient/jobs?count=100")["jobs"]}

    def live(self, family: str) -> list[str]:
        """The ECS tasks of this family that run."""
        return list(self.client("ecs").list_tasks(family=family)["taskArns"])


@contextmanager
def furnished(home: Path) -> Iterator[World]:
    """
    With the job letters and its queue; only the examples' DAGs are not there. `make up` itself is test_up.py's.

    :param home: an empty folder.
    """
    with LocalCloud() as cloud:
        more = {**cloud.env, **furnish(cloud), **events(cloud)}
        with serving(home, PARTS, more) as server:
            world = World(server.url, generated_password(home), cloud.env)
            world.ask("POST", "/transient/jobs", example_job(more["AIRFLOW_VAR_SUBNETS"].split(",")))
            yield world


def register_sleeper(world: World) -> None:
    """A task definition that sleeps for as long as the variable SECONDS says."""
    world.client("ecs").register_task_definition(
        family=SLEEPER,
        networkMode="bridge",
        containerDefinitions=[
            {
                "name": "main",
                "image": "sleeper",
                "essential": True,
                "memory": 64,
                "command": ["sh", "-c", 'echo "sleeping for $SECONDS_TO_SLEEP"; sleep "$SECONDS_TO_SLEEP"'],
            }
        ],
    )


# --- the browser


@dataclass
class Watched:
    """A tab on Airflow's own pages, and all that went wrong on ours inside it."""

    page: Page
    world: World
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._asked)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))

    def _asked(self, request: Request) -> None:
        if is_ours(request.frame) and not request.url.startswith((f"{self.world.url}/", "data:")):
            self.wrong.append(f"asked another place: {request.url}")

    def _said(self, message: ConsoleMessage) -> None:
        """Chromium tells of every answer that is no success; those are looked at by the page itself.

        It does not always tell where a policy was violated: Airflow's own pages have none.
        """
        ours = "/transient/" in message.location.get("url", "") or "Content Security Policy" in message.text
        if ours and message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(f"console: {message.text}")


def is_ours(frame: Frame) -> bool:
    """Airflow's own address ends like ours, too: it follows the frame's."""
    return frame.parent_frame is not None and urlsplit(frame.url).path.endswith("/transient/page")


@contextmanager
def chromium() -> Iterator[Browser]:
    # Chromium's own sandbox does not work for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def logged_in(browser: Browser, world: World) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="Europe/Berlin", locale="en-GB")
    page = context.new_page()
    page.goto(world.url)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password", exact=True).fill(world.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Transient", exact=True).wait_for(timeout=60_000)
    page.close()
    return context

"""The rules in the page's modules, as tables: run by a browser, without Airflow."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
if shutil.which("chromium") is None:
    pytest.skip("needs Debian's Chromium: apt-get install chromium", allow_module_level=True)

from playwright.sync_api import Page, sync_playwright

STATIC = Path(__file__).resolve().parents[1] / "airflow_transient" / "plugin" / "static"
Ask = Callable[[str, str, list[Any]], Any]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is told of each file."""


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    """Of a server that has the page's files and nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(STATIC)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(timezone_id="Europe/Berlin", locale="en-GB")
        page.goto(f"http://127.0.0.1:{server.server_port}/icon.svg")
        yield page
        browser.close()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ask(browser_page: Page) -> Ask:
    """Calls what a module exports with values of JSON; what it throws is {"error": words}."""
    code = """async ([module, name, values]) => {
        const found = name.split(".").reduce((held, part) => held[part], await import(module));
        try { return found(...values) ?? null } catch (error) { return {error: error.message} }
    }"""
    return lambda module, name, values: browser_page.evaluate(code, [f"/{module}", name, values])


@pytest.mark.parametrize(
    ("holds", "text", "value"),
    [
        ("text", " report ", "report"),
        ("text", "  ", None),
        ("number", "12", 12),
        ("number", "x", "x"),  # the API has the words for it
        ("list", "m7i.large, m6i.large", ["m7i.large", "m6i.large"]),
        ("pairs", "A=1\nB=x=y\n\n C = d", {"A": "1", "B": "x=y", "C": " d"}),
        ("pairs", "A", {"error": "Line 1 is no NAME=value."}),
        ("pairs", '{"A": "one\\ntwo"}', {"A": "one\ntwo"}),
        ("command", "[ -f x ] && echo y", "[ -f x ] && echo y"),
        ("command", '["echo", "y"]', ["echo", "y"]),
        ("listOrJson", "FARGATE_SPOT, FARGATE", ["FARGATE_SPOT", "FARGATE"]),
        ("listOrJson", '[[{"capacityProvider": "A"}]]', [[{"capacityProvider": "A"}]]),
        ("scalar", "0.9", 0.9),
        ("scalar", "90%", "90%"),
        ("tick", "true", True),
        ("tick", "false", None),
        ("flag", "false", False),
        ("flag", "", None),
    ],
)
def test_what_is_typed_is_this_value(ask: Ask, holds: str, text: str, value: Any) -> None:
    assert ask("converters.js", f"CONVERTERS.{holds}.take", [text]) == value


@pytest.mark.parametrize(
    ("holds", "value"),
    [
        ("list", [["nested"]]),
        ("list", ["with, comma"]),
        ("pairs", {"LINES": "one\ntwo"}),
        ("pairs", {"": "no name"}),
        ("text", 5),
        ("command", {"an": "object"}),
        ("flag", "yes"),
    ],
)
def test_a_value_that_a_field_cannot_hold_is_shown_as_json(ask: Ask, holds: str, value: Any) -> None:
    assert ask("converters.js", f"CONVERTERS.{holds}.show", [value]) is None


@pytest.mark.parametrize(
    ("before", "after", "patch", "removed"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, {}, [], id="another order is no change"),
        pytest.param({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {}, [], id="nor within"),
        pytest.param({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}, [], id="what differs and what is new"),
        pytest.param({"maxCount": 5}, {}, {}, ["maxCount"], id="what is gone cannot be sent"),
        pytest.param(
            {"trigger": {"type": "sqs"}}, {}, {"trigger": {"type": "noop"}}, [], id="but for what has a nothing"
        ),
        pytest.param({"overrides": [{}]}, {}, {"overrides": []}, [], id="such as an empty list"),
        pytest.param({"taskCount": 1}, {}, {}, [], id="and needs nothing sent where it was that"),
    ],
)
def test_an_edit_sends_only_what_it_changes(
    ask: Ask, before: Any, after: Any, patch: dict[str, Any], removed: list[str]
) -> None:
    assert ask("job_document.js", "changes", [before, after]) == {"patch": patch, "removed": removed}


def test_what_the_api_adds_is_not_edited(ask: Ask) -> None:
    shown = {"id": "a", "suspended": True, "lastRun": "x", "lastRunTasks": [], "estimatedNextRun": "y", "link": {}}
    assert ask("job_document.js", "editable", [shown]) == {"id": "a", "suspended": True}


def test_messages_are_told_by_the_path_of_their_field(ask: Ask) -> None:
    messages = {"id": ["one", "two"], "trigger": {"_schema": ["three"]}, "overrides": {"0": {"environment": ["four"]}}}
    assert ask("job_document.js", "flat", [messages]) == [
        ["id", "one"],
        ["id", "two"],
        ["trigger._schema", "three"],
        ["overrides.0.environment", "four"],
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (12.4, "12 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
        (-5, "0 s"),
    ],
)
def test_spans_in_two_units(ask: Ask, seconds: float, words: str) -> None:
    assert ask("moments.js", "span", [seconds]) == words


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01", 1000),  # UTC, as in the API
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1970-01-01 00:00:01.5+00:00", 1500),
    ],
)
def test_a_moment_without_an_offset_is_utc(ask: Ask, text: str, milliseconds: int) -> None:
    assert ask("moments.js", "read", [text]) == milliseconds


def test_a_run_id_is_told_by_its_kind_and_moment(ask: Ask) -> None:
    year = "2099-11-21T11:58:00+00:00"
    assert ask("words.js", "runWords", [f"scheduled__{year}"]) == "scheduled, Sat, 21 Nov 2099, 12:58:00"
    assert ask("words.js", "runWords", ["by hand"]) == "by hand"


def test_the_history_of_depths_is_bounded(browser_page: Page) -> None:
    """Of 60 queues with 400 readings each, the last of them seen twice."""
    fill = """async () => {
        const { History } = await import("/history.js");
        const kept = {};
        const storage = {getItem: () => kept.text ?? null, setItem: (_, text) => { kept.text = text }};
        const history = new History(storage);
        for (let queue = 0; queue < 60; queue += 1)
            for (let at = 1; at <= 400; at += 1)
                history.add(`q${queue}`, queue * 1000 + at, {visible: at, in_flight: 0, delayed: 0});
        history.add("q59", 59400, {visible: 7, in_flight: 0, delayed: 0});
        history.keep();
        const again = new History(storage);
        const last = again.of("q59");
        return [Object.keys(again.known).length, last.length, last.at(-1)[1], again.of("q0").length];
    }"""
    assert browser_page.evaluate(fill) == [40, 360, 400, 0]

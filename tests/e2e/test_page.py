"""The page in Airflow's navigation, in a real browser, on a real Airflow and the local cloud.

One Airflow, one cloud and one browser for all tests here; each has jobs of its own, and `letters` is there for all.

Screenshots are kept in $AIRFLOW_TRANSIENT_SCREENSHOTS, else in pytest's own temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from tests.waiting import eventually

pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
if shutil.which("chromium") is None:
    pytest.skip("needs Debian's Chromium: apt-get install chromium", allow_module_level=True)

from playwright.sync_api import expect

from tests.e2e.page_world import SLEEPER, SOON, Watched, World, chromium, furnished, logged_in, register_sleeper

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, FrameLocator, Locator, Page

pytestmark = [
    *(pytest.mark.slow, pytest.mark.e2e, pytest.mark.airflow, pytest.mark.sandbox),
    pytest.mark.timeout(400),
]

THEMES = ("light", "dark")
SIZES = {"wide": (1280, 900), "narrow": (420, 900)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with furnished(tmp_path_factory.mktemp("page") / "airflow") as running:
        register_sleeper(running)
        yield running


@pytest.fixture(scope="module")
def context(world: World) -> Iterator[BrowserContext]:
    with chromium() as browser:
        yield logged_in(browser, world)


@pytest.fixture(scope="module")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Page, str], None]:
    """Keeps a picture of the page."""
    folder = Path(os.environ.get("AIRFLOW_TRANSIENT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"screenshots: {folder}")
    return lambda page, name: page.screenshot(path=folder / f"{name}.png") and None


@pytest.fixture
def tab(world: World, context: BrowserContext) -> Iterator[Watched]:
    """A browser tab; whatever our page asked of another place or complained about fails the test."""
    page = context.new_page()
    watched = Watched(page, world)
    yield watched
    page.close()
    assert watched.wrong == []


@pytest.fixture
def ours(tab: Watched) -> FrameLocator:
    """Our page, reached as a person reaches it: through Airflow's menu."""
    tab.page.goto(tab.world.url)
    tab.page.get_by_role("link", name="Transient").click(timeout=SOON)
    frame = tab.page.frame_locator("iframe")
    expect(frame.get_by_role("tab", name="Running now")).to_be_visible(timeout=SOON)
    return frame


def field(ours: FrameLocator, name: str) -> Locator:
    return ours.locator(f'[data-field="{name}"]')


def fill_in(ours: FrameLocator, **values: str) -> None:
    for name, value in values.items():
        field(ours, name).locator("input, textarea").first.fill(value)


def row(ours: FrameLocator, words: str) -> Locator:
    return ours.get_by_role("row").filter(has_text=words)


def make_job(ours: FrameLocator, id: str, seconds: int, schedule: str) -> None:
    """In the form, from the tab Jobs."""
    ours.get_by_role("button", name="New job").click()
    fill_in(ours, taskDefinition=SLEEPER, id=id, schedule=schedule)
    ours.get_by_role("button", name="Add a container").click()
    ours.get_by_label("Container", exact=True).fill("main")
    ours.get_by_label("Its environment").fill(f"SECONDS_TO_SLEEP={seconds}")
    ours.get_by_role("button", name="Create the job").click()
    expect(row(ours, id)).to_be_visible(timeout=SOON)


def run_now(ours: FrameLocator, id: str) -> None:
    ours.get_by_role("button", name=f"Run now {id}").click()
    ours.get_by_role("button", name="Run it now").click()
    expect(ours.get_by_text(f"Job {id} was asked to run.").last).to_be_visible(timeout=SOON)


def test_a_bad_schedule_is_told_beside_the_field_and_a_good_one_shows_its_next_five_times(
    tab: Watched, ours: FrameLocator, shoot: Callable[[Page, str], None]
) -> None:
    ours.get_by_role("tab", name="Jobs").click()
    ours.get_by_role("button", name="New job").click()
    fill_in(ours, taskDefinition=SLEEPER, schedule="61 *")
    expect(field(ours, "schedule").locator(".trouble")).to_contain_text("Invalid schedule syntax", timeout=SOON)
    shoot(tab.page, "bad-schedule")

    ours.get_by_role("button", name="Create the job").click()
    expect(ours.get_by_role("alert").filter(has_text="This is not saved yet")).to_be_visible()
    expect(field(ours, "schedule").locator("input")).to_be_focused()

    fill_in(ours, schedule="? 30 2", timezone="Europe/Berlin")
    expect(ours.locator(".preview li")).to_have_count(5, timeout=SOON)
    expect(ours.locator(".preview li").first).to_contain_text("02:30:0")
    expect(field(ours, "schedule").locator(".trouble")).to_be_empty()
    shoot(tab.page, "next-times")

    fill_in(ours, schedule="0 0 0 * * 31 2")
    expect(ours.locator(".preview")).to_contain_text("never", timeout=SOON)


def test_a_job_made_in_the_form_fires_shows_under_running_now_and_goes(
    tab: Watched, ours: FrameLocator, world: World, shoot: Callable[[Page, str], None]
) -> None:
    ours.get_by_role("tab", name="Jobs").click()
    make_job(ours, "brief", seconds=12, schedule="*/15")
    expect(row(ours, "brief").get_by_text("1 started")).to_be_visible(timeout=90_000)
    ours.get_by_role("button", name="Suspend brief").click()
    expect(row(ours, "brief")).to_contain_text("suspended")
    expect(ours.get_by_role("button", name="Resume brief")).to_be_focused()

    ours.get_by_role("tab", name="Running now").click()
    expect(row(ours, "job.brief").first).to_contain_text("cluster default", timeout=SOON)
    shoot(tab.page, "running")
    expect(row(ours, "job.brief")).to_have_count(0, timeout=90_000)
    assert world.jobs()["brief"]["suspended"] is True


def test_a_launch_is_stopped_after_it_was_asked_for_and_its_job_deleted(
    tab: Watched, ours: FrameLocator, world: World, shoot: Callable[[Page, str], None]
) -> None:
    ours.get_by_role("tab", name="Jobs").click()
    make_job(ours, "lasting", seconds=600, schedule="0 0 0 1 1 * * 2099")
    run_now(ours, "lasting")

    ours.get_by_role("tab", name="Running now").click()
    stop = ours.get_by_role("button", name=re.compile("^Stop .* of job.lasting"))
    stop.click(timeout=90_000)
    dialog = ours.get_by_role("dialog")
    expect(dialog).to_contain_text("cannot be undone")
    expect(dialog.get_by_role("button", name="Keep it running")).to_be_focused()
    shoot(tab.page, "stop")
    dialog.get_by_role("button", name="Keep it running").click()
    expect(stop).to_be_focused()
    assert world.live(SLEEPER)

    stop.click()
    dialog.get_by_role("button", name=re.compile("^Stop")).click()
    expect(row(ours, "job.lasting")).to_have_count(0, timeout=90_000)
    assert world.live(SLEEPER) == []

    ours.get_by_role("tab", name="Jobs").click()
    ours.get_by_role("button", name="Delete lasting").click()
    dialog.get_by_role("button", name="Delete lasting").click()
    expect(row(ours, "lasting")).to_have_count(0, timeout=SOON)
    assert "lasting" not in world.jobs()


def test_an_ec2_job_is_made_changed_and_deleted_with_the_keyboard_alone(
    tab: Watched, ours: FrameLocator, world: World
) -> None:
    keys = tab.page.keyboard
    ours.get_by_role("tab", name="Running now").focus()
    keys.press("ArrowRight")
    expect(ours.get_by_role("tab", name="Jobs")).to_be_focused()
    reach(tab, ours.get_by_role("button", name="New job"))
    keys.press("Enter")
    expect(ours.get_by_role("heading", name="New job")).to_be_focused()

    reach(tab, ours.get_by_label("ECS tasks"))
    keys.press("ArrowRight")
    reach(tab, field(ours, "id").locator("input"))
    keys.type("by-keys")
    reach(tab, field(ours, "command").locator("textarea"))
    keys.type("echo '<b id=markup>text</b>'")
    reach(tab, field(ours, "schedule").locator("input"))
    keys.type("0 0 0 1 1 * * 2099")
    reach(tab, field(ours, "imageId").locator("input"))
    keys.type("ami-0123456789abcdef0")
    reach(tab, field(ours, "instanceType").locator("input"))
    keys.type("t3.micro, t3.small")
    keys.press("Enter")
    expect(row(ours, "by-keys")).to_contain_text("<b id=markup>text</b>", timeout=SOON)
    expect(ours.locator("#markup")).to_have_count(0)
    expect(ours.get_by_role("button", name="Edit by-keys")).to_be_focused()

    keys.press("Enter")
    expect(ours.get_by_role("heading", name="Job by-keys")).to_be_focused(timeout=SOON)
    reach(tab, field(ours, "count").locator("input"))
    keys.type("2")
    keys.press("Enter")
    expect(ours.get_by_role("button", name="Edit by-keys")).to_be_focused(timeout=SOON)
    made = world.jobs()["by-keys"]
    assert (made["kind"], made["count"], made["instanceType"]) == ("ec2", 2, ["t3.micro", "t3.small"])

    reach(tab, ours.get_by_role("button", name="Delete by-keys"))
    keys.press("Enter")
    expect(ours.get_by_role("button", name="Keep it")).to_be_focused()
    keys.press("Tab")
    keys.press("Enter")
    expect(row(ours, "by-keys")).to_have_count(0, timeout=SOON)
    expect(ours.get_by_role("button", name="New job")).to_be_focused()


def reach(tab: Watched, there: Locator) -> None:
    """With the Tab key, as far as it takes."""
    for _ in range(60):
        if there.evaluate("element => element === document.activeElement"):
            return
        tab.page.keyboard.press("Tab")
    raise AssertionError(f"not reached with the Tab key: {there}")


def test_json_keeps_what_the_form_does_not_know_and_somebody_else_s_change_is_shown(
    tab: Watched, ours: FrameLocator, world: World, shoot: Callable[[Page, str], None]
) -> None:
    document = {
        "id": "shared",
        "taskDefinition": SLEEPER,
        "schedule": "0 0 0 1 1 * * 2099",
        "capacityProviders": [[{"capacityProvider": "FARGATE", "weight": 2}], "FARGATE_SPOT"],
        "overrides": [{"containerName": "main", "environment": {"LINES": "one\ntwo", "DB_PASSWORD": "correct-horse"}}],
    }
    world.ask("POST", "/transient/jobs", document)
    ours.get_by_role("tab", name="Jobs").click()
    ours.get_by_role("button", name="Edit shared").click(timeout=SOON)
    expect(ours.get_by_text("*** stands for a value that Airflow hides")).to_be_visible(timeout=SOON)
    ours.get_by_role("radio", name="JSON").check()
    text = ours.get_by_label("Document").input_value()
    assert "correct-horse" not in text
    ours.get_by_role("radio", name="Form").check()
    ours.get_by_role("radio", name="JSON").check()
    assert sorted(ours.get_by_label("Document").input_value()) == sorted(text)
    ours.get_by_role("radio", name="Form").check()

    fill_in(ours, maxCount="7")
    world.ask("PUT", "/transient/jobs/shared", {"schedule": "0 0 0 2 2 * * 2099"})
    ours.get_by_role("button", name="Save the changes").click()
    dialog = ours.get_by_role("dialog", name="Somebody else changed this job")
    expect(dialog.get_by_role("row").filter(has_text="schedule")).to_contain_text("0 0 0 2 2 * * 2099", timeout=SOON)
    shoot(tab.page, "conflict")
    dialog.get_by_role("button", name="Save mine on top of theirs").click()
    expect(ours.get_by_role("button", name="Edit shared")).to_be_focused(timeout=SOON)
    saved = world.jobs()["shared"]
    assert (saved["maxCount"], saved["schedule"]) == (7, "0 0 0 2 2 * * 2099")
    assert saved["capacityProviders"] == document["capacityProviders"]
    world.ask("DELETE", "/transient/jobs/shared")


def test_a_queue_s_depth_and_what_a_job_would_ask_for(
    tab: Watched, ours: FrameLocator, world: World, shoot: Callable[[Page, str], None]
) -> None:
    """The job letters is there as `make up` brings it, with a queue of that name."""
    world.ask("PUT", "/transient/jobs/letters", {"suspended": True})
    sqs = world.client("sqs")
    url = sqs.get_queue_url(QueueName="letters")["QueueUrl"]
    for at in range(25):
        sqs.send_message(QueueUrl=url, MessageBody=f'{{"id": "{at}"}}')
    ours.get_by_role("tab", name="Queues").click()
    card = ours.get_by_role("article").filter(has=ours.get_by_role("heading", name=re.compile("^letters")))
    expect(card.locator(".figures .visible dd")).to_have_text("25", timeout=SOON)
    expect(card).to_contain_text("would launch 3 tasks now", timeout=SOON)
    expect(card.get_by_role("img", name=re.compile("25 visible"))).to_be_visible(timeout=SOON)
    shoot(tab.page, "queues")


def test_a_task_instance_has_a_tab_with_its_launch(
    tab: Watched, world: World, shoot: Callable[[Page, str], None]
) -> None:
    environment = {"SECONDS_TO_SLEEP": "15"}  # a wait that is over at once can meet a race of Airflow's own
    overrides = [{"containerName": "main", "environment": environment}]
    schedule = "0 0 0 1 1 * * 2099"
    world.ask("POST", "/transient/jobs", {"taskDefinition": SLEEPER, "schedule": schedule, "overrides": overrides})
    run = eventually(lambda: run_of(world, SLEEPER), within=30, every=1)
    waiting = f"{world.url}/dags/job.{SLEEPER}/runs/{quote(run, safe='')}/tasks/wait"
    eventually(lambda: state_of_run(world, SLEEPER, run) == "success", within=120, every=1)
    tab.page.goto(f"{waiting}/plugin/transient-launch")
    ours = tab.page.frame_locator("iframe")
    expect(ours.get_by_role("heading", name="How it ended")).to_be_visible(timeout=SOON)
    expect(ours.get_by_text("succeeded").first).to_be_visible()
    shoot(tab.page, "launch")
    world.ask("DELETE", f"/transient/jobs/{SLEEPER}")


def run_of(world: World, id: str) -> str | None:
    """None while its DAG is not parsed yet."""
    try:
        return str(world.ask("POST", f"/transient/jobs/{id}/run", {})["runId"])
    except HTTPError as refusal:
        if refusal.code != 503:
            raise
        return None


def state_of_run(world: World, id: str, run: str) -> str:
    return str(world.ask("GET", f"/api/v2/dags/job.{id}/dagRuns/{quote(run, safe='')}")["state"])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", THEMES)
def test_it_looks_like_the_airflow_around_it(
    tab: Watched, world: World, shoot: Callable[[Page, str], None], theme: str, size: str
) -> None:
    width, height = SIZES[size]
    tab.page.set_viewport_size({"width": width, "height": height})
    tab.page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    tab.page.goto(f"{world.url}/plugin/transient")
    ours = tab.page.frame_locator("iframe")
    expect(ours.locator("html")).to_have_attribute("data-theme", theme, timeout=SOON)
    for name in ("Running now", "Jobs", "Queues"):
        ours.get_by_role("tab", name=name).click()
        expect(ours.get_by_role("tabpanel", name=name).get_by_text("As of")).to_be_visible(timeout=SOON)
        assert ours.locator("html").evaluate("page => page.scrollWidth <= page.clientWidth"), "it scrolls sideways"
        shoot(tab.page, f"{name.split()[0].lower()}-{theme}-{size}")


def test_it_follows_a_change_of_airflow_s_theme(tab: Watched, ours: FrameLocator) -> None:
    """By the class of the document around it, which is what Airflow's own switch changes."""
    was = ours.locator("html").get_attribute("data-theme")
    other = {"light": "dark", "dark": "light"}[str(was)]
    tab.page.evaluate(f"document.documentElement.classList.replace('{was}', '{other}')")
    expect(ours.locator("html")).to_have_attribute("data-theme", other)


def test_it_says_when_airflow_does_not_answer_and_how_old_what_it_shows_is(
    tab: Watched, ours: FrameLocator, shoot: Callable[[Page, str], None]
) -> None:
    ours.get_by_role("tab", name="Jobs").click()
    expect(row(ours, "letters")).to_be_visible(timeout=SOON)
    tab.page.route("**/transient/jobs?*", lambda route: route.abort())
    ours.get_by_role("button", name="Look again").locator("visible=true").click()
    bar = ours.locator(".bar.bad")
    expect(bar).to_contain_text("Airflow does not answer. What is shown was seen")
    expect(row(ours, "letters")).to_be_visible()
    shoot(tab.page, "unreachable")
    tab.page.unroute("**/transient/jobs?*")
    ours.get_by_role("button", name="Look again").locator("visible=true").click()
    expect(bar).to_have_count(0, timeout=SOON)


def test_nothing_inline_runs_and_nothing_is_asked_of_another_place(tab: Watched, ours: FrameLocator) -> None:
    """So that the silence of the other tests means something."""
    inside = ours.locator("body")
    inside.evaluate("body => body.append(Object.assign(document.createElement('script'), {textContent: 'run = 1'}))")
    inside.evaluate("body => body.setAttribute('style', 'color: red')")
    refused = "body => fetch('https://example.org/').then(() => 'answered', error => error.name)"
    assert inside.evaluate(refused) == "TypeError"
    assert inside.evaluate("() => typeof window.run") == "undefined"
    told = "Content Security Policy"
    eventually(lambda: inside.is_visible() and sum(told in words for words in tab.wrong) >= 3)
    tab.wrong.clear()


def test_links_lead_out_of_the_frame_to_airflow_s_own_pages(tab: Watched, ours: FrameLocator, world: World) -> None:
    ours.get_by_role("tab", name="Jobs").click()
    row(ours, "letters").get_by_role("link", name="letters").click(timeout=SOON)
    tab.page.wait_for_url(f"{world.url}/dags/job.letters*", timeout=SOON)

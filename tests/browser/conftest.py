"""Real browsers on a real platform: Chromium, Redis, web, reconciler, one worker.

Where there is no Chromium the tests are skipped, and `make test` says so loudly; with
BROWSER_TESTS=required they fail.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e import market, workflows
from tests.e2e.platform_processes import Platform, running
from tests.e2e.waiting import until

PASSWORD = "unused-9x"
# Deadlines, not expectations: a busy machine may take its time.
DEADLINE_MS = 90_000
expect.set_options(timeout=DEADLINE_MS)
ENDLESS: dict[str, object] = {"rounds": 100_000, "instruments": 15}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass(frozen=True)
class Stage:
    """A platform with a market, and whoever looks at it."""

    platform: Platform
    market: workflows.Market

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.platform.port}"

    def submit(self, **changes: object) -> str:
        """A small training on few instruments; its id."""
        asked = {"instruments": 4, "rounds": 30, **changes}
        return self.platform.client.submit(workflows.small(self.market, **asked))


@dataclass
class Looker:
    """A page, and all that the browser complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)


def chromium() -> str:
    """Chromium's path. Skips the test where there is none, unless it is required."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        return found
    told = "**** no Chromium: the tests of the pages in a browser are SKIPPED ****"
    if os.environ.get("BROWSER_TESTS") == "required":
        pytest.fail(told.replace("SKIPPED", "required (BROWSER_TESTS)"))
    pytest.skip(told)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    datasets = tmp_path_factory.mktemp("datasets")
    with running(database_url=None, datasets_dir=datasets) as platform:
        ground = market.import_into(platform)
        platform.start(workers=1)
        yield Stage(platform, ground)


@pytest.fixture(scope="package")
def finished(stage: Stage) -> str:
    """A completed task with all its records."""
    task_id = stage.submit(name="Finished <b>one</b>")
    task = stage.platform.client.final(task_id, within_s=200)
    assert task["status"] == "completed", task["error"]
    return task_id


@pytest.fixture(scope="package")
def another(stage: Stage) -> str:
    """A second completed task, to be compared."""
    task_id = stage.submit(name="Finished two", rounds=5)
    assert stage.platform.client.final(task_id, within_s=200)["status"] == "completed"
    return task_id


@pytest.fixture(scope="package")
def failed(stage: Stage) -> str:
    """A task that ran out of its time."""
    task_id = stage.submit(name="Too long", timeout_s=1, **ENDLESS)
    assert stage.platform.client.final(task_id, within_s=200)["status"] == "failed"
    return task_id


@pytest.fixture
def running_task(stage: Stage) -> Iterator[str]:
    """A task in its fit, as long as the test needs it."""
    task_id = stage.submit(name="Endless", **ENDLESS)
    client = stage.platform.client
    until(lambda: client.task(task_id)["stage"] == "fit", what="the fit", within_s=200)
    yield task_id
    client.act(task_id, "cancel")
    client.final(task_id, within_s=120)


@pytest.fixture
def look(browser: Browser, stage: Stage) -> Iterator[Callable[..., Looker]]:
    """`look(theme="dark", width=390)`: a signed-in page of a browser of its own."""
    opened: list[BrowserContext] = []
    looking: list[Looker] = []

    def open_page(*, theme: str = "light", width: int = 1280, scripts: bool = True) -> Looker:
        context = browser.new_context(
            base_url=stage.url,
            color_scheme=theme,
            viewport={"width": width, "height": 850},
            java_script_enabled=scripts,
        )
        context.set_default_timeout(DEADLINE_MS)
        opened.append(context)
        looker = Looker(context.new_page())
        looking.append(looker)
        _hear(looker)
        sign_in(looker.page)
        return looker

    yield open_page
    for context in opened:
        context.close()
    told = [complaint for looker in looking for complaint in looker.complaints]
    assert told == []


def sign_in(page: Page) -> None:
    page.goto("/sign-in")
    page.fill("[name=username]", "user")
    page.fill("[name=password]", PASSWORD)
    page.click("button.main")
    page.wait_for_selector("#list")


def _hear(looker: Looker) -> None:
    """Errors of scripts, breaches of the policy, requests that leave the server."""
    page = looker.page
    page.on("pageerror", lambda error: looker.complaints.append(f"script: {error}"))
    page.on(
        "console",
        lambda message: (
            looker.complaints.append(f"console: {message.text}")
            if "Content Security Policy" in message.text or "Content-Security" in message.text
            else None
        ),
    )
    page.on("dialog", lambda dialog: looker.complaints.append(f"dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
            else looker.complaints.append(f"left the server: {request.url}")
        ),
    )

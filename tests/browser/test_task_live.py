"""A task's page in Chromium while its task goes on: what each event changes on it."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ENDLESS
from tests.browser.telling import is_same, mark, state, tell
from tests.e2e.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(900),
]


def progress(page: Page, **left: float) -> dict[str, Any]:
    data = {"stage": "fit", "done": 7, "total": 30, "unit": "round", **left}
    return state(page, type="progress", data=data)


def test_the_time_left_is_of_all_or_of_the_stage_and_goes_with_the_stage(look, running_task):
    page = look().page
    left = page.locator("#eta")

    tell(page, running_task, lambda page: progress(page, stage_eta_s=75))
    expect(left).to_have_text("up to 1 m 15 s left in fit")

    tell(page, running_task, lambda page: progress(page, stage_eta_s=75, eta_s=90))
    expect(left).to_have_text("1 m 30 s left")

    entered = {"type": "stage", "stage": "predict", "data": {"stage": "predict"}}
    tell(page, running_task, progress, lambda page: state(page, **entered))
    expect(page.locator('[data-stage="predict"]')).to_have_attribute("data-state", "now")
    expect(left).to_have_text("")
    expect(page.locator("#count")).to_have_text("")


def test_the_stage_that_runs_tells_its_time_by_the_servers_clock(look, running_task):
    page = look().page
    page.add_init_script("const now = Date.now; Date.now = () => now() + 3600e3")
    took = page.locator('[data-stage="fit"] small')

    page.goto(f"/tasks/{running_task}")
    before = took.inner_text()

    expect(took).not_to_have_text(before)
    expect(took).to_have_text(re.compile(r"^[0-9.]+ s$|^[0-9] m [0-9]{2} s$"))


def test_a_lost_attempt_leaves_nothing_of_it_but_a_line(stage, look, running_task):
    page = look().page
    given_back = {"type": "requeued", "status": "pending", "stage": "queued"}
    line = '<div id="waits"><p>Attempt 1 was lost</p></div>'
    ran = '<section id="ran">Started later</section>'

    def requeued(page: Page) -> dict[str, Any]:
        expect(page.locator("#count")).to_have_text("round 7 of 30")
        page.route(page.url, lambda route: route.fulfill(body=line + ran, content_type="text/html"))
        return state(page, **given_back)

    tell(page, running_task, lambda page: progress(page, stage_eta_s=75), requeued)

    expect(page.locator("#waits")).to_have_text("Attempt 1 was lost")
    expect(page.locator("#count")).to_have_text("")
    expect(page.locator("#eta")).to_have_text("")
    expect(page.locator("#worker")).to_have_text("–")
    expect(page.locator(".stages [data-state=waiting]")).to_have_count(7)
    page.unroute_all()

    def started(page: Page) -> dict[str, Any]:
        page.route(page.url, lambda route: route.fulfill(body=line + ran, content_type="text/html"))
        return state(page, type="started", attempt=2, data={"worker": "worker-9"})

    tell(page, running_task, started)
    expect(page.locator("#worker")).to_have_text("worker-9")
    expect(page.locator("#ran")).to_have_text("Started later")
    expect(page.locator(".curve-ends")).to_have_count(0)
    assert is_same(page)


def test_the_start_of_an_attempt_is_shown_while_it_lasts_and_after_it(look, running_task):
    page = look().page
    start = page.locator('[data-stage="start"]')
    # Later than the page was made, by whatever clock.
    at = "2100-01-01T00:00:{}Z".format

    def entered(page: Page) -> dict[str, Any]:
        data = {"stage": "data"}
        return state(page, type="stage", stage="data", attempt=2, data=data, timestamp=at(23))

    started = {"type": "started", "attempt": 2, "stage": "data", "data": {"worker": "worker-9"}}
    tell(page, running_task, lambda page: state(page, **started, timestamp=at("00")))
    expect(start).to_be_visible()
    expect(start).to_have_attribute("data-state", "now")

    tell(page, running_task, lambda page: state(page, **started, timestamp=at("00")), entered)
    expect(start.locator("small")).to_have_text("23 s")
    expect(start).to_have_attribute("data-state", "done")
    expect(page.locator('[data-stage="data"]')).to_have_attribute("data-state", "now")


def test_who_reads_the_log_further_up_by_keys_stays_there(look, running_task):
    page = look().page
    log, follow = page.locator("#log"), page.locator("#log-follow input")

    def chunk(page: Page) -> dict[str, Any]:
        end = int(page.locator("#task").get_attribute("data-log-next") or 0)
        text = "a line\n" * 200
        return state(page, type="log", data={"offset": end, "size": len(text), "text": text})

    def further(page: Page) -> dict[str, Any]:
        expect(log).to_contain_text("a line")
        log.press("Control+Home")
        expect(follow).not_to_be_checked()
        told = chunk(page)
        told["data"]["offset"] += 1400
        return told

    tell(page, running_task, chunk, further)
    page.wait_for_function("() => document.querySelector('#log').textContent.length > 2800")
    assert log.evaluate("(log) => log.scrollTop") == 0

    log.press("Control+End")
    expect(follow).to_be_checked()


def test_the_age_in_the_list_goes_on_by_the_servers_clock(look, running_task):
    page = look().page
    page.add_init_script("const now = Date.now; Date.now = () => now() + 3600e3")
    page.goto("/")
    age = page.locator(f'tr[data-task="{running_task}"] [data-label="age"]')
    before = age.inner_text()
    assert re.fullmatch(r"[0-9]+ s", before)

    expect(age).not_to_have_text(before)
    expect(age).to_have_text(re.compile(r"^[0-9]+ s$|^1 m$"))


def test_the_end_of_a_task_moves_no_reader_and_loses_no_search(stage, look):
    task_id = stage.submit(name="Read meanwhile", **ENDLESS)
    page = look(width=390).page
    page.goto(f"/tasks/{task_id}")
    expect(page.locator("#curves .chart").first).to_be_attached()
    page.fill("#log-search", "leader")
    expect(page.locator("#log mark").first).to_be_attached()
    page.locator("#log-title").evaluate("(title) => title.scrollIntoView({block: 'center'})")
    mark(page)
    top = "() => document.querySelector('#log-title').getBoundingClientRect().top"
    before = page.evaluate(top)

    assert stage.platform.client.act(task_id, "cancel").status_code == 202
    page.wait_for_function("() => window.same === undefined")

    expect(page.locator("#status")).to_have_text("cancelled")
    expect(page.locator("#log mark").first).to_have_text("leader")
    expect(page.locator("#curves .chart").first).to_be_attached()
    until(lambda: abs(page.evaluate(top) - before) < 40, what="the place", within_s=10)

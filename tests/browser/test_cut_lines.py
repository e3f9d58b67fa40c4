"""The pages where answers are lost, lines are cut and the web process dies: each finds its way."""

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import ENDLESS, Stage
from tests.browser.telling import is_same, mark, state, tell

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(900),
]

DELETE = """
from training import services
from training.models import TrainingTask
task = TrainingTask.objects.get(pk="{}")
services.delete(task.pk, user=task.owner)
"""


def lose_first_answers(page: Page) -> list[str]:
    """What scripts ask for breaks once at each address; the addresses."""
    lost: list[str] = []

    def answer(route: Route) -> None:
        asked = route.request
        is_asked = asked.resource_type == "fetch" or "plotly" in asked.url
        if is_asked and asked.url not in lost:
            lost.append(asked.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/*", answer)
    return lost


# ── Answers that are lost ───────────────────────────────────────────────────────────────


def test_a_task_page_shows_all_although_each_first_answer_is_lost(look, finished):
    page = look().page
    lost = lose_first_answers(page)

    page.goto(f"/tasks/{finished}")
    for place in ("[data-chart=return]", "#curves"):
        page.locator(place).scroll_into_view_if_needed()
        chart = page.locator(f"{place}.js-plotly-plot, {place} .js-plotly-plot").first
        expect(chart.locator(".scatterlayer .trace").first).to_be_attached()

    for part in ("/report", "/metrics", "plotly"):
        assert any(part in one for one in lost), part


def test_a_comparison_shows_all_although_each_first_answer_is_lost(look, finished, another):
    page = look().page
    lost = lose_first_answers(page)
    state = 'data-state="'

    def still_waiting(route: Route) -> None:
        if route.request.resource_type != "document":
            route.fallback()
            return
        head, _, rest = route.fetch().text().partition(state)
        route.fulfill(body=head + state + "waiting" + rest[rest.index('"') :])

    page.route("**/compare?*", still_waiting)
    page.goto(f"/compare?tasks={finished},{another}")
    mark(page)

    for place in ("[data-chart=excess]", "#curves"):
        page.locator(place).scroll_into_view_if_needed()
        chart = page.locator(f"{place}.js-plotly-plot, {place} .js-plotly-plot").first
        expect(chart.locator(".scatterlayer .trace")).to_have_count(2)
    expect(page.locator("#correlation")).not_to_have_attribute("data-state", "waiting")
    assert page.url in lost
    assert is_same(page)


def test_the_list_tells_of_an_end_although_the_answer_was_lost(stage: Stage, look, running_task):
    page = look().page
    status = page.locator(f'tr[data-task="{running_task}"] .status')
    expect(status).to_have_text("running")
    lost = lose_first_answers(page)

    stage.platform.client.act(running_task, "cancel")

    expect(status).to_have_text("cancelled")
    assert lost == [page.url]


def test_the_list_shows_a_new_task_where_the_browsers_clock_is_fast(stage: Stage, look):
    page = look().page
    page.add_init_script("const now = Date.now; Date.now = () => now() + 3600e3")
    page.goto("/")

    task_id = stage.submit(name="From the past")

    expect(page.locator(f'tr[data-task="{task_id}"]')).to_be_visible()
    stage.platform.client.final(task_id, within_s=200)


def test_a_machine_without_a_network_is_no_moment_live(look, finished):
    page = look().page
    page.goto(f"/tasks/{finished}")
    light = page.locator("#alive")
    expect(light).to_have_attribute("data-state", "live")

    page.context.set_offline(True)
    expect(light).to_have_attribute("data-state", "away", timeout=5_000)
    page.context.set_offline(False)

    expect(light).to_have_attribute("data-state", "live")


# ── A web process that is killed ────────────────────────────────────────────────────────


def test_a_killed_web_process_costs_the_list_and_a_comparison_nothing(
    stage: Stage, look, finished, another
):
    doomed = stage.submit(name="Doomed", rounds=5)
    stage.platform.client.final(doomed, within_s=200)
    page = look().page
    row = page.locator(f'tr[data-task="{doomed}"]')
    expect(row).to_be_visible()
    compared = page.context.new_page()
    compared.set_viewport_size({"width": 1280, "height": 100})
    compared.goto(f"/compare?tasks={finished},{another}")
    mark(page)
    mark(compared)

    stage.platform.kill("web")
    expect(page.locator("#alive")).to_have_attribute("data-state", "away")
    stage.platform.manage("shell", "-v0", "-c", DELETE.format(doomed))
    compared.locator("#curves").scroll_into_view_if_needed()
    stage.platform.start(workers=1)

    expect(row).to_have_count(0)
    expect(compared.locator("#curves .js-plotly-plot .scatterlayer .trace").first).to_be_attached()
    fresh = stage.submit(name="After the restart", rounds=5)
    expect(page.locator(f'tr[data-task="{fresh}"] .status')).to_have_text("completed")
    assert is_same(page)
    assert is_same(compared)


# ── What a socket tells ─────────────────────────────────────────────────────────────────


def test_a_snapshot_of_a_task_that_has_ended_shows_its_result(look, running_task):
    page = look().page

    tell(page, running_task, lambda page: state(page, type="snapshot", status="completed"))

    page.wait_for_function("() => window.same === undefined")


def test_a_snapshot_shows_the_stage(look, running_task):
    page = look().page

    tell(page, running_task, lambda page: state(page, type="snapshot", stage="predict"))

    expect(page.locator('.stages [data-stage="predict"]')).to_have_attribute("data-state", "now")
    expect(page.locator('.stages [data-stage="fit"]')).to_have_attribute("data-state", "done")
    assert is_same(page)


def test_what_of_a_chunk_is_known_is_not_shown_twice(look, finished):
    page = look().page

    def overlapping(page: Page) -> dict[str, object]:
        end = int(page.locator("#task").get_attribute("data-log-next") or 0)
        known = page.locator("#log").text_content()[-6:]
        text = f"{known}née\n"
        chunk = {"offset": end - 6, "size": len(text.encode()), "text": text}
        return state(page, type="log", status="completed", data=chunk)

    page.goto(f"/tasks/{finished}")
    before = page.locator("#log").text_content()
    tell(page, finished, overlapping)

    page.wait_for_function("() => document.querySelector('#log').textContent.includes('née')")
    assert page.locator("#log").text_content() == f"{before}née\n"


def test_a_new_attempt_takes_the_curves_of_the_old_one_away(look, running_task):
    page = look().page
    charts = page.locator("#curves .js-plotly-plot")

    def started(page: Page) -> dict[str, object]:
        page.locator("#curves").scroll_into_view_if_needed()
        expect(charts.first).to_be_attached()
        return state(page, type="started", attempt=2, data={"worker": "worker-9"})

    tell(page, running_task, started)

    expect(page.locator("#no-curves")).to_be_visible()
    expect(charts).to_have_count(0)
    expect(page.locator("#log")).to_have_text("")


# ── The log ─────────────────────────────────────────────────────────────────────────────


def test_a_search_is_of_the_whole_log(stage: Stage, look, another):
    file = stage.platform.state_dir / "artifacts" / another / "1" / "log.txt"
    short = file.read_text()
    filler = "".join(f"filler {number} {'é' * 50}\n" for number in range(30_000))
    page = look().page
    try:
        file.write_text(short + filler)
        page.goto(f"/tasks/{another}")
        expect(page.locator("#log")).not_to_contain_text("leader: attempt")

        page.fill("#log-search", "leader: attempt 1")
        expect(page.locator("#log mark")).to_have_count(1)
        page.fill("#log-search", "filler")
        expect(page.locator("#log")).to_contain_text("The last 1000 of 30000 lines")
        page.fill("#log-search", "nowhere in it")
        expect(page.locator("#log")).to_have_text("No line has that.")
        page.fill("#log-search", "")
        expect(page.locator("#log")).to_contain_text("filler 29999")
    finally:
        file.write_text(short)


# ── Workers ─────────────────────────────────────────────────────────────────────────────


def test_the_workers_page_follows_what_they_run_and_keeps_open_what_is_open(stage: Stage, look):
    page = look().page
    page.goto("/workers")
    expect(page.locator("#alive")).to_have_attribute("data-state", "live")
    mark(page)
    page.locator("#workers article summary").click()

    task_id = stage.submit(name="On a worker", **ENDLESS)
    running = page.locator(f'#workers [data-task="{task_id}"]')
    expect(running.locator("[data-show]")).to_contain_text("fit")
    expect(page.locator("#workers article .status")).to_have_text("working")
    assert page.locator("#workers article details").get_attribute("open") is not None

    stage.platform.client.act(task_id, "cancel")
    expect(running).to_have_count(0)
    expect(page.locator("#workers article .status")).to_have_text("idle")
    assert is_same(page)

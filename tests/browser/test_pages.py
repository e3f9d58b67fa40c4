"""The pages in Chromium, on real processes and a real training."""

import re

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Page, expect

from tests.browser.conftest import ENDLESS
from tests.e2e import workflows
from tests.e2e.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(900),
]

NASTY = '<script>window.broken = 1</script><img src=x onerror="window.broken = 1">'

# ── Flows ───────────────────────────────────────────────────────────────────────────────


def test_a_workflow_goes_from_the_editor_to_its_report(stage, look):
    page = look().page
    page.goto("/new")
    expect(page.locator("#verdict")).to_have_text("This workflow can run.")
    text = page.input_value("#workflow")
    line = next(n for n, row in enumerate(text.split("\n"), 1) if "learning_rate" in row)

    page.fill("#workflow", text.replace("learning_rate", "learning_rat"))
    fault = page.locator("#findings li").first
    expect(fault).to_contain_text("learning_rate")
    expect(fault.locator("button")).to_have_text(f"line {line}")
    expect(page.locator(f"#editor .lines b:nth-child({line})")).to_have_attribute("data-fault", "")
    fault.locator("button").click()
    assert (
        page.evaluate(
            "() => { const f = document.querySelector('#workflow');"
            " return f.value.slice(0, f.selectionStart).split('\\n').length }"
        )
        == line
    )

    asked = {"instruments": 4, "rounds": 40, "name": "From the editor"}
    page.fill("#workflow", workflows.small(stage.market, **asked))
    expect(page.locator("#verdict")).to_have_text("This workflow can run.")
    page.click("#start")
    expect(page.locator("h1")).to_have_text("From the editor")
    expect(page.locator(".headline")).to_contain_text("Rank IC", timeout=300_000)
    expect(page.locator("#status")).to_have_text("completed")
    page.locator("[data-chart=return]").scroll_into_view_if_needed()
    expect(
        page.locator("[data-chart=return].js-plotly-plot .scatterlayer path").first
    ).to_be_visible()


def test_the_list_follows_a_task_without_a_reload(stage, look):
    page = look().page
    page.evaluate("() => { window.same = true }")

    task_id = stage.submit(name="Seen at once", **ENDLESS)
    row = page.locator(f'tr[data-task="{task_id}"]')
    expect(row).to_be_visible()
    expect(row.locator(".status")).to_have_text("running")
    assert page.evaluate("() => window.same")
    row.locator("input").check()
    page.locator("button[value=cancel]").click()
    page.click("text=Yes, cancel")
    expect(page.locator(f'tr[data-task="{task_id}"] .status')).to_have_text("cancelled")


def test_curves_grow_and_a_killed_web_process_costs_nothing(stage, look, running_task):
    page = look().page
    page.goto(f"/tasks/{running_task}")
    page.evaluate("() => { window.same = true }")
    page.locator("#curves").scroll_into_view_if_needed()
    before = until(lambda: steps_shown(page), what="the first points", within_s=90)
    until(lambda: len(steps_shown(page)) > len(before), what="more points", within_s=90)
    until(lambda: steps_shown(page, "valid_ic"), what="the validation IC", within_s=90)
    slow_down(page)

    stage.platform.kill("web")
    expect(page.locator("#alive")).to_have_attribute("data-state", "away")
    stage.platform.start(workers=1)
    expect(page.locator("#alive")).to_have_attribute("data-state", "live")
    there = stage.platform.client.read(f"/api/tasks/{running_task}/metrics?name=train.l2").json()
    later = {point["step"] for point in there["results"]} - set(range(before[-1] + 1))

    assert len(later) > 10
    until(lambda: later <= set(steps_shown(page)), what="every point", within_s=120)
    assert page.evaluate("() => window.same")


def steps_shown(page: Page, curve: str = "train.l2") -> list[int]:
    """Steps of one curve, as the charts have them."""
    return page.evaluate(
        "(name) => [...document.querySelectorAll('#curves .js-plotly-plot')]"
        ".flatMap((chart) => chart.data).find((one) => one.name === name)?.x ?? []",
        curve,
    )


def slow_down(page: Page) -> None:
    """A bad line: 400 ms there and back, 100 KB a second."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    line = {"latency": 400, "downloadThroughput": 100_000, "uploadThroughput": 100_000}
    session.send("Network.emulateNetworkConditions", {"offline": False, **line})


def test_a_clone_is_edited_started_and_compared_with_its_origin(finished, look):
    page = look().page
    page.goto(f"/tasks/{finished}")

    page.click("text=Clone and edit")
    text = page.input_value("#workflow").replace("Finished <b>one</b>", "Edited")
    page.fill("#workflow", re.sub(r"num_boost_round: \d+", "num_boost_round: 5", text))
    expect(page.locator("#verdict")).to_have_text("This workflow can run.")
    page.click("#start")
    expect(page.locator("h1")).to_have_text("Edited")
    expect(page.locator(".headline")).to_contain_text("Rank IC", timeout=300_000)
    edited = page.url.rstrip("/").rpartition("/")[2]

    page.click("nav >> text=Tasks")
    for task_id in (finished, edited):
        page.locator(f'tr[data-task="{task_id}"] input').check()
    page.locator("button[value=compare]").click()
    expect(page.locator("table.beside").first).to_contain_text("Rank IC")
    expect(page.locator("#differences + div")).to_contain_text("num_boost_round")
    # A chart's legend says a name as it is written.
    legend = page.locator("[data-chart=excess] .legendtext")
    expect(legend).to_have_text(["Edited", "Finished <b>one</b>"])
    for place in ("[data-chart=excess]", "#curves"):
        page.locator(place).scroll_into_view_if_needed()
        chart = page.locator(f"{place}.js-plotly-plot, {place} .js-plotly-plot").first
        expect(chart.locator(".scatterlayer .trace")).to_have_count(2)


def test_names_and_messages_of_others_do_nothing(stage, look):
    task_id = stage.submit(name=NASTY, tags=["<script>x</script>"])
    page = look().page

    for path in ("/", f"/tasks/{task_id}", f"/new?like={task_id}", "/workers"):
        page.goto(path)
        page.wait_for_timeout(300)
        assert page.evaluate("() => window.broken") is None, path
    expect(page.locator("body")).not_to_contain_text("\x1b")
    assert stage.platform.client.act(task_id, "cancel").status_code in (202, 409)


def test_the_log_can_be_searched_and_is_followed(finished, look):
    page = look().page
    page.goto(f"/tasks/{finished}")

    page.fill("#log-search", "leader: stage")
    expect(page.locator("#log mark").first).to_have_text("leader: stage")
    lines = page.locator("#log").inner_text().strip().splitlines()

    assert len(lines) == 6
    with page.expect_download() as download:
        page.click("a:has-text('Download')")
    assert download.value.suggested_filename.endswith(".log")


# ── Every page, as different people have it ─────────────────────────────────────────────

PAGES = [
    "/",
    "/new",
    "/compare",
    "/leaderboard",
    "/workers",
    "/datasets",
    "/sign-in",
    "/nowhere",
]
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """(tags) => axe.run(document, {runOnly: tags}).then((told) => told.violations.map((one) =>
    one.id + ": " + one.nodes.map((node) => node.target + " " + node.failureSummary).join("; ")))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    finished, another, look, theme, width
):
    page = look(theme=theme, width=width).page

    for path in [*PAGES, f"/tasks/{finished}", f"/compare?tasks={finished},{another}"]:
        page.goto(path)
        see_all(page)
        assert faults_of(page) == [], path
        assert page.evaluate(
            "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), path
    page.goto("/new")
    page.fill("#workflow", "task: {model: {class: Nothing}}")
    expect(page.locator("#findings li").first).to_be_visible()
    assert faults_of(page) == []


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_where_a_task_runs_or_failed_or_something_is_asked(
    stage, look, failed, running_task, theme, width
):
    page = look(theme=theme, width=width).page

    page.goto(f"/tasks/{running_task}")
    page.locator("#training").scroll_into_view_if_needed()
    expect(page.locator("#curves .js-plotly-plot").first).to_be_attached()
    assert faults_of(page) == [], "running"
    page.goto(f"/tasks/{failed}")
    expect(page.locator("#failure")).to_contain_text("timed_out")
    assert faults_of(page) == [], "failed"
    for task_id, deed in ((running_task, "cancel"), (failed, "delete")):
        page.goto("/")
        page.locator(f'tr[data-task="{task_id}"] input').check()
        page.locator(f"button[value={deed}]").click()
        expect(page.locator(f"text=Yes, {deed}")).to_be_visible()
        assert faults_of(page) == [], deed
    page.context.clear_cookies()
    page.goto("/sign-in")
    assert faults_of(page) == [], "sign in"
    page.fill("[name=username]", "user")
    page.fill("[name=password]", "wrong")
    page.click("button.main")
    expect(page.locator(".note.bad, .errorlist, [role=alert]").first).to_be_visible()
    assert faults_of(page) == [], "wrong password"


def test_a_superuser_sees_the_rings_and_can_press_nothing_there(stage, look):
    page = look().page

    page.goto("/admin/training/worker/rings/")

    row = page.locator("tr", has=page.locator("td", has_text="cpu")).first
    expect(row).to_contain_text(re.compile(r"\((idle|busy)\)"))
    assert page.locator("#content form, #content button, #content a").count() == 0


def faults_of(page: Page) -> list[str]:
    """What axe finds on the page as it is now."""
    page.evaluate(AXE_FILE_PATH.read_text())
    return page.evaluate(AXE, LEVELS)


def see_all(page: Page) -> None:
    """Scroll to the end, so that every chart is drawn."""
    height = page.evaluate("() => document.body.scrollHeight")
    for top in range(0, height, 600):
        page.evaluate(f"() => scrollTo(0, {top})")
        page.wait_for_timeout(60)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.chart.waiting')].every((one) => one.hidden)"
    )


def test_every_page_works_without_scripts(finished, stage, look):
    page = look(scripts=False).page

    for path in [
        "/",
        "/new",
        "/compare",
        "/leaderboard",
        "/workers",
        "/datasets",
        f"/tasks/{finished}",
    ]:
        assert page.goto(path).status == 200, path
    expect(page.locator(".headline")).to_contain_text("Rank IC")
    page.goto("/new")
    page.fill("#workflow", "task: {}")
    page.click("#check")
    expect(page.locator("#findings li").first).to_contain_text("task.")


def test_the_keyboard_reaches_what_the_mouse_does(finished, look):
    page = look().page

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.goto("/new")
    page.focus("#workflow")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator("#workflow")).not_to_be_focused()
    page.goto(f"/tasks/{finished}")
    page.focus("a:has-text('Clone and edit')")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("New task")


def test_the_theme_stays_as_it_was_chosen(look):
    page = look().page
    page.click("#theme")
    page.goto("/datasets")

    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    assert (
        page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    )

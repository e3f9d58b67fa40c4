"""What the charts make of series that a report may have, in Chromium."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(900),
]


def change(page: Page, task_id: str, what: str, edit: Callable[[dict], None]) -> None:
    """The page gets the task's `report` or `metrics` as they are after `edit`."""

    def answer(route: Route) -> None:
        real = route.fetch()
        told = real.json()
        edit(told)
        route.fulfill(response=real, body=json.dumps(told))

    page.route(f"**/api/tasks/{task_id}/{what}?*", answer)


def drawn(page: Page, place: str) -> list[dict]:
    """Name and values of the traces in the chart, once it is drawn."""
    page.locator(place).scroll_into_view_if_needed()
    expect(page.locator(f"{place}.js-plotly-plot .trace").first).to_be_attached()
    return page.evaluate(
        "(place) => document.querySelector(place).data.map(({ name, y }) => ({ name, y: [...y] }))",
        place,
    )


def without_ic(report: dict) -> None:
    report["ic"]["rank_ic"] = [None] * len(report["ic"]["rank_ic"])


def test_a_task_without_an_ic_has_no_curve_of_it_and_a_gap_stays_one(finished, another, look):
    page = look().page
    change(page, another, "report", without_ic)
    change(page, finished, "report", lambda told: told["ic"]["rank_ic"].__setitem__(1, None))
    page.goto(f"/compare?tasks={finished},{another}")

    curves = drawn(page, "[data-chart=rank_ic]")

    assert [curve["name"] for curve in curves] == ["Finished &lt;b&gt;one&lt;/b&gt;"]
    assert curves[0]["y"][1] is None
    assert curves[0]["y"][0] is not None


def constant_rate(told: dict) -> None:
    told["results"] = [{"name": "lr", "step": n, "value": 0.002} for n in range(5)]


def test_a_constant_curve_stands_in_the_middle_of_its_axis(finished, look):
    page = look().page
    change(page, finished, "metrics", constant_rate)
    page.goto(f"/tasks/{finished}")
    page.locator("#curves").scroll_into_view_if_needed()

    expect(page.locator("#curves .js-plotly-plot .trace")).to_have_count(1)
    range_ = page.evaluate("() => document.querySelector('#curves .chart').layout.yaxis.range")

    assert range_ == pytest.approx([0.001, 0.003])


def three_days(report: dict) -> None:
    for name, series in report["portfolio"].items():
        report["portfolio"][name] = series[:3]


def test_an_axis_of_days_names_days_only_and_shares_are_percent(finished, look):
    page = look().page
    change(page, finished, "report", three_days)
    page.goto(f"/tasks/{finished}")
    drawn(page, "[data-chart=turnover]")

    ticks = page.locator("[data-chart=turnover] .xtick text").all_text_contents()
    shares = page.locator("[data-chart=turnover] .ytick text").all_text_contents()

    assert 1 <= len(ticks) <= 5
    assert not [one for one in ticks if ":" in one]
    assert all(one.endswith(" %") for one in shares)


def told_by_one(told: dict) -> None:
    names = ("valid_ic", "sub_1.train.l2", "sub_1.valid.l2")
    told["results"] = [{"name": name, "step": n, "value": n} for name in names for n in range(3)]


def told_nothing(told: dict) -> None:
    told["results"] = []


def test_a_curve_of_one_task_alone_is_named_and_none_is_of_the_training_data(
    finished, another, look
):
    page = look().page
    change(page, finished, "metrics", told_by_one)
    change(page, another, "metrics", told_nothing)
    page.goto(f"/compare?tasks={another},{finished}")
    page.locator("#curves").scroll_into_view_if_needed()

    expect(page.locator("#curves .js-plotly-plot")).to_have_count(2)
    expect(page.locator("#curves .legendtext")).to_have_text(["Finished <b>one</b>"] * 2)
    titles = page.locator("#curves .chart-title").all_inner_texts()

    assert [title.partition(":")[0] for title in titles] == ["Loss", "IC on the validation days"]


def test_a_running_task_is_compared_without_asking_for_its_report(finished, running_task, look):
    page = look().page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/compare?tasks={finished},{running_task}")
    drawn(page, "[data-chart=excess]")

    expect(page.locator("thead .status")).to_have_text("running")

    assert [url for url in asked if "/report" in url and finished in url]
    assert not [url for url in asked if "/report" in url and running_task in url]


def test_without_scripts_a_note_stands_where_charts_would(finished, another, look):
    page = look(scripts=False).page

    for path in (f"/tasks/{finished}", f"/compare?tasks={finished},{another}"):
        page.goto(path)
        expect(page.locator("main .note", has_text="need JavaScript")).to_be_visible()
        for box in page.locator(".chart, .swatch").all():
            expect(box).to_be_hidden()


@pytest.mark.parametrize("is_return", [True, False])
def test_groups_are_percent_only_of_a_label_that_is_a_return(finished, look, is_return):
    page = look().page
    change(page, finished, "report", lambda told: told.update(label_is_return=is_return))
    page.goto(f"/tasks/{finished}")

    names = [one["name"] for one in drawn(page, "[data-chart=groups]")]
    ticks = page.locator("[data-chart=groups] .ytick text").all_text_contents()

    assert names[0] == "group 1 (highest scores)"
    assert any("%" in tick for tick in ticks) is is_return

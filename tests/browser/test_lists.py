"""Lists of tasks in Chromium: long names, many ticks, narrow screens."""

import pytest
from playwright.sync_api import Page, expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(900),
]

LONG = "W" * 190


@pytest.fixture(scope="module")
def long_named(stage) -> str:
    task_id = stage.submit(name=LONG, rounds=5)
    stage.platform.client.final(task_id, within_s=200)
    return task_id


def fits(page: Page, selector: str) -> bool:
    """What is in the element is no wider than it."""
    return page.evaluate(
        "(one) => { const it = document.querySelector(one);"
        " return it.scrollWidth <= it.clientWidth }",
        selector,
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_name_takes_two_lines_of_the_list_and_wraps_in_a_question(look, long_named, width):
    page = look(width=width).page
    name = page.locator(f'tr[data-task="{long_named}"] .name a')
    line = name.evaluate("(one) => parseFloat(getComputedStyle(one).lineHeight)")

    assert name.bounding_box()["height"] <= 2 * line + 1
    page.locator(f'tr[data-task="{long_named}"] input').check()
    page.locator("button[value=delete]").click()
    expect(page.locator("h1")).to_contain_text("Delete this task")
    assert fits(page, "html")
    assert fits(page, ".panel")


def test_all_of_the_page_are_ticked_at_once(look, long_named):
    page = look().page
    count = page.locator("#list input[name=task]").count()

    page.check("#all input")
    expect(page.locator("#chosen")).to_have_text(f"{count} chosen")
    page.uncheck("#all input")

    expect(page.locator("#chosen")).not_to_contain_text("chosen")
    assert page.locator("#list input:checked").count() == 0


def test_every_page_is_named_on_a_phone_and_the_sign_in_is_in_the_middle(look):
    page = look(width=390).page
    page.goto("/datasets")

    for link in page.locator("nav[aria-label=Pages] a").all():
        box = link.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    page.context.clear_cookies()
    page.goto("/sign-in")
    align = "(one) => getComputedStyle(one).justifyContent"
    assert page.locator("button.main").evaluate(align) == "center"


def test_every_column_of_the_administration_is_on_the_screen(look, long_named):
    page = look(width=1440).page
    page.goto("/admin/training/trainingtask/")

    expect(page.locator("#result_list tbody tr").first).to_be_visible()
    assert fits(page, "#changelist-form .results")

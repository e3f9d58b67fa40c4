"""The editor in Chromium: what was typed is not lost."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import sign_in
from tests.e2e import workflows

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(900),
]

SIGNED_OUT = "You are signed out: sign in in another tab, your text stays."


def type_at_the_end(page: Page, text: str) -> None:
    page.focus("#workflow")
    page.keyboard.press("Control+End")
    page.keyboard.type(text)


def test_a_session_that_ended_costs_no_text_and_another_tab_brings_it_back(stage, look):
    page = look().page
    page.goto("/new")
    text = workflows.small(stage.market, instruments=4, rounds=5, name="Typed before")
    page.fill("#workflow", text)
    expect(page.locator("#verdict")).to_have_text("This workflow can run.")

    page.context.clear_cookies()
    page.click("#start")
    expect(page.locator("#verdict")).to_have_text(SIGNED_OUT)
    expect(page.locator("#findings li")).to_have_count(0)
    with page.expect_popup() as other:
        page.click("#verdict a")
    sign_in(other.value)
    expect(page.locator("#verdict")).to_have_text("This workflow can run.")
    assert page.input_value("#workflow") == text
    page.click("#start")

    expect(page.locator("h1")).to_have_text("Typed before")
    page.goto("/new")
    expect(page.locator("#kept")).to_be_hidden()
    assert "Typed before" not in page.input_value("#workflow"), "a start ends the draft"


def test_a_draft_is_there_when_one_comes_back(look):
    page = look().page
    page.goto("/new")
    original = page.input_value("#workflow")
    type_at_the_end(page, "# mine")

    page.goto("/datasets")
    page.context.clear_cookies()
    sign_in(page)
    page.goto("/new")

    assert page.input_value("#workflow").endswith("# mine")
    page.click("text=Take the original")
    assert page.input_value("#workflow") == original
    page.reload()
    expect(page.locator("#kept")).to_be_hidden()


def test_a_preset_replaces_no_edited_text_for_good(look):
    page = look().page
    page.goto("/new")
    type_at_the_end(page, "# mine")

    page.locator(".presets a:not([aria-current])").first.click()
    page.wait_for_url("**/new?preset=*")
    assert "# mine" not in page.input_value("#workflow")
    page.click("text=Take it back")
    assert page.input_value("#workflow").endswith("# mine")
    page.keyboard.press("Control+Z")

    assert "# mine" not in page.input_value("#workflow"), "this is undone as typing is"


def test_words_within_a_text_are_not_coloured_as_values(look):
    page = look().page
    page.goto("/new")
    text = "name: LightGBM on Alpha158\n- {a: on, b: [1, no], c: 'no'}  # yes\nis: yes\n"
    page.fill("#workflow", text)

    assert page.locator("#editor .ink").text_content().rstrip("\n") == text.rstrip("\n")
    assert page.locator("#editor .y-word").all_inner_texts() == ["on", "no", "yes"]
    assert page.locator("#editor .y-number").all_inner_texts() == ["1"]


def test_without_scripts_the_editor_promises_none_of_their_keys(look):
    page = look(scripts=False).page
    page.goto("/new")

    expect(page.locator("#keys")).to_be_hidden()
    expect(page.locator("#kept")).to_be_hidden()

"""Who is ahead, and how much of it is luck."""

import re

from tests.api.result_files import TEST_2018, completed, report_of, waves


def tried(owner, name, ratio, **fields):
    report = report_of([value + ratio / 1_000 for value in waves(240)])
    metrics = {"information_ratio": ratio, "ic": 1 - ratio}
    return completed(owner, name=name, report=report, metrics=metrics, **{**TEST_2018, **fields})


def names(text: str) -> list[str]:
    return re.findall(r'<td class="name"><a [^>]*>([^<]*)<', text)


def test_the_best_stands_first_with_the_tries_behind_it(browser, owner, stranger):
    tried(owner, "low", 0.2)
    tried(owner, "high", 0.9)
    tried(stranger, "foreign", 9.0)

    text = browser.get("/leaderboard").content.decode()

    assert names(text) == ["high", "low"]
    assert "2 tries stand behind the first, 2 of them different" in text
    assert re.search(r'data-label="Deflated Sharpe"><span class="[^"]*">\d+ %', text)
    assert names(browser.get("/leaderboard?order=ic").content.decode()) == ["low", "high"]


def test_boards_are_apart_and_each_has_its_address(browser, owner):
    tried(owner, "one", 0.2)
    tried(owner, "other", 0.9, dataset="second")

    text = browser.get("/leaderboard?dataset=demo").content.decode()

    assert names(text) == ["one"]
    assert "dataset=second" in text
    assert "Nothing can be ranked" in browser.get("/leaderboard?dataset=x").content.decode()

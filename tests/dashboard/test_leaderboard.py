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
    assert "1 task<" in text
    gone = browser.get("/leaderboard?dataset=x").content.decode()
    assert "There is no such board of the dataset x" in gone
    assert "Nothing can be ranked" not in gone


def test_nothing_is_ranked_before_a_task_is_completed(browser):
    assert "Nothing can be ranked yet" in browser.get("/leaderboard").content.decode()


def test_the_same_result_several_times_is_one_row(browser, owner):
    tried(owner, "best", 0.9)
    for number in range(3):
        tried(owner, f"again {number}", 0.5)
    tried(owner, "last", 0.1)

    text = browser.get("/leaderboard").content.decode()

    assert names(text) == ["best", "again 0", "last"]
    assert "×3, the same in every figure" in text
    assert "again 2" in text
    assert re.findall(r'<tr><td class="number">(\d)<', text) == ["1", "2", "5"]


def test_of_one_try_no_luck_of_choice_is_told(browser, owner):
    tried(owner, "alone", 0.2)

    text = browser.get("/leaderboard").content.decode()

    assert "It is the only try" in text
    assert "true Sharpe ratio is above 0." in text
    assert "worthless tries" not in text

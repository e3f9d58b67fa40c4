"""Predictions and positions: by day, by instrument, in pages, as CSV."""

import pytest

from tests.api.result_files import completed, keep_outcomes, weekdays
from training.states import Status

SCORES = [["BBB", 0.2, 0.01], ["AAA", 0.9, None], ["CCC", -0.5, -0.03]]
HELD = [["AAA", 10, 2.5, 0.3], ["CCC", 20, 1.5, 0.6]]
FIRST, SECOND = weekdays(2)


@pytest.fixture
def task(owner):
    task = completed(owner)
    keep_outcomes(task, scores=SCORES, positions=HELD, days=2)
    return task


@pytest.fixture
def ask(api, task):
    return lambda what: api.get(f"/api/tasks/{task.id}/{what}")


def test_a_days_scores_come_best_first_with_the_return_that_followed(ask):
    answer = ask(f"predictions?date={FIRST}").json()

    assert answer["results"] == [
        {"date": FIRST, "instrument": "AAA", "score": 0.9, "label": None, "rank": 1},
        {"date": FIRST, "instrument": "BBB", "score": 0.2, "label": 0.01, "rank": 2},
        {"date": FIRST, "instrument": "CCC", "score": -0.5, "label": -0.03, "rank": 3},
    ]
    assert (answer["date"], answer["next"]) == (FIRST, None)


@pytest.mark.parametrize("what", ["predictions", "positions"])
def test_what_the_caller_has_is_not_sent_again(api, task, ask, what):
    known = {"HTTP_IF_NONE_MATCH": ask(what)["ETag"]}

    assert api.get(f"/api/tasks/{task.id}/{what}", **known).status_code == 304
    assert api.get(f"/api/tasks/{task.id}/{what}?date={FIRST}", **known).status_code == 200


def test_an_instrument_comes_day_by_day(ask):
    answer = ask("predictions?instrument=CCC").json()

    assert [(one["date"], one["rank"]) for one in answer["results"]] == [(FIRST, 3), (SECOND, 3)]
    assert answer["date"] is None


def test_without_a_question_it_is_the_newest_day(ask):
    assert ask("predictions").json()["date"] == SECOND
    assert ask("positions").json()["date"] == SECOND


def test_positions_come_largest_first_with_the_account(ask):
    answer = ask(f"positions?date={FIRST}").json()

    assert [(one["instrument"], one["weight"]) for one in answer["results"]] == [
        ("CCC", 0.6),
        ("AAA", 0.3),
    ]
    assert answer["account"] == {"cash": 100.0, "value": 1000.0}
    assert ask("positions?instrument=AAA").json()["account"] is None


def test_a_day_comes_in_pages_with_every_row_once(api, task):
    url, seen = f"/api/tasks/{task.id}/predictions?date={FIRST}&limit=2", []

    while url:
        answer = api.get(url).json()
        seen += [one["instrument"] for one in answer["results"]]
        url = answer["next"]

    assert seen == ["AAA", "BBB", "CCC"]


def test_csv_has_all_rows_and_a_name(ask, task):
    answer = ask("predictions?instrument=AAA&as=csv&limit=1")

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert f"{task.id}-predictions.csv" in answer["Content-Disposition"]
    assert answer.content.decode().splitlines() == [
        "date,instrument,score,label,rank",
        f"{FIRST},AAA,0.9,,1",
        f"{SECOND},AAA,0.9,,1",
    ]


@pytest.mark.parametrize(
    "what",
    ["predictions?date=2001-01-01", "predictions?instrument=' OR 1=1 --", "positions?instrument=Z"],
)
def test_what_is_not_there_is_an_empty_page(ask, what):
    assert ask(what).json()["results"] == []


@pytest.mark.parametrize("what", ["date=soon", "limit=0", "offset=-1", "as=xml", "day=1"])
def test_a_wrong_question_is_refused(ask, what):
    assert ask(f"predictions?{what}").status_code == 400


def test_a_task_without_predictions_says_so(api, owner, make_task):
    old, open_ = completed(owner), make_task(status=Status.RUNNING)

    assert api.get(f"/api/tasks/{old.id}/predictions").status_code == 404
    assert api.get(f"/api/tasks/{old.id}/positions").status_code == 404
    assert api.get(f"/api/tasks/{open_.id}/positions").json()["error"]["code"] == "not_finished"


def test_reading_leaves_nothing_beside_the_file(ask, task, settings):
    ask("predictions")

    folder = settings.ARTIFACTS_DIR / task.id / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["outcomes.sqlite", "report.json"]

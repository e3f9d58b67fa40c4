"""Comparison: the best marked, only differences shown, predictions compared by a worker once."""

import pytest
from django.db.models.functions import Now

from tests.api.result_files import completed, report_of, waves
from training import comparison, figures
from training.models import Figure
from training.states import Status


@pytest.fixture
def pair(owner):
    first = completed(owner, name="a", metrics={"ic": 0.1, "turnover": 0.3, "ffr": 1.0})
    second = completed(
        owner,
        name="b",
        metrics={"ic": 0.2, "turnover": 0.4, "ffr": 0.9, "max_drawdown": -0.1},
        config={"task": {"model": {"kwargs": {"lr": 0.1, "seeds": [1, 2]}}}},
    )
    return first, second


def url_of(*tasks, more=""):
    return "/api/compare?" + "&".join(f"task={task.id}" for task in tasks) + more


def test_metrics_stand_side_by_side_with_the_best_marked(api, pair):
    rows = {row["name"]: row for row in api.get(url_of(*pair)).json()["metrics"]}

    assert (rows["ic"]["values"], rows["ic"]["best"]) == ([0.1, 0.2], [1])
    assert rows["turnover"]["best"] == [], "neither more nor less turnover is better"
    assert rows["ffr"]["best"] == [], "nobody can say which is better"
    assert (rows["max_drawdown"]["values"], rows["max_drawdown"]["best"]) == ([None, -0.1], [])


@pytest.mark.parametrize(
    ("name", "values", "places"),
    [
        ("max_drawdown", [-0.3, -0.1], [1]),
        ("information_ratio_without_cost", [2.0, 1.0], [0]),
        ("ic", [0.1, 0.1], []),
        ("ic", [0.2, 0.1, 0.2], [0, 2]),
        ("ic", [None, None], []),
    ],
)
def test_the_best_is_the_best_of_what_is_known(name, values, places):
    assert comparison.best(name, values) == places


def test_only_what_differs_in_the_configs_is_shown():
    same = {"class": "LGBModel", "kwargs": {"n": 1, "list": [1, 2]}}
    first = {"task": {"model": same}, "platform": {"name": "a", "threads": 1}}
    second = {
        "task": {"model": same | {"kwargs": {"n": 2, "list": [1, 3], "new": None, "none": {}}}},
        "platform": {"name": "b", "threads": 1},
    }

    assert comparison.differences([first, second]) == [
        {"path": "task.model.kwargs.n", "values": [1, 2]},
        {"path": "task.model.kwargs.list.1", "values": [2, 3]},
        {"path": "task.model.kwargs.none", "values": [None, {}]},
    ]


def test_curves_are_of_those_that_have_a_backtest(api, owner, pair, make_task):
    running = make_task(status=Status.RUNNING)

    told = api.get(url_of(*pair, running, more="&points=50")).json()

    assert [curve["task_id"] for curve in told["curves"]] == [task.id for task in pair]
    assert len(told["curves"][0]["days"]) == len(told["curves"][0]["excess_with_cost"]) <= 50
    assert [task["id"] for task in told["tasks"]] == [*(task.id for task in pair), running.id]


def test_other_data_or_another_period_is_said(api, owner, pair):
    other = completed(owner, dataset_version="v2", test_to="2019-01-01")

    alike, unlike = (api.get(url_of(*tasks)).json() for tasks in (pair, (pair[0], other)))

    assert (alike["same_data"], alike["same_test"]) == (True, True)
    assert (unlike["same_data"], unlike["same_test"]) == (False, False)
    assert [row["best"] for row in alike["metrics"] if row["name"] == "ic"] == [[1]]
    assert not any(row["best"] for row in unlike["metrics"]), "figures of unlike tasks have no best"


def test_predictions_are_compared_by_a_worker_once_in_whatever_order(api, pair, rings):
    first = api.get(url_of(*pair)).json()["correlation"]
    again = api.get(url_of(*reversed(pair))).json()["correlation"]
    key = Figure.objects.get().key
    figures.keep(key, value={"tasks": ["x"], "pearson": [[1]], "rank": [[1]], "days": [[9]]})
    ready = api.get(url_of(*pair)).json()["correlation"]

    assert first["state"] == again["state"] == "waiting"
    assert rings == [f"figure {key}"]
    assert (ready["state"], ready["days"]) == ("ready", [[9]])


def test_a_lost_ring_is_rung_again_by_who_still_waits(api, pair, rings):
    api.get(url_of(*pair))
    Figure.objects.update(asked_at=Now() - 2 * figures.ASK_AGAIN)

    api.get(url_of(*pair))
    api.get(url_of(*pair))

    assert len(rings) == 2


def test_what_a_worker_could_not_compute_is_told(api, pair):
    api.get(url_of(*pair))
    figures.keep(Figure.objects.get().key, error="FileNotFoundError: gone")

    told = api.get(url_of(*pair)).json()["correlation"]

    assert (told["state"], told["error"]) == ("failed", "FileNotFoundError: gone")


def test_one_completed_task_is_nothing_to_correlate(api, pair, make_task, rings):
    told = api.get(url_of(pair[0], make_task(status=Status.RUNNING))).json()

    assert told["correlation"] is None
    assert rings == []


def test_a_task_of_somebody_else_is_none(client_of, owner, stranger, staff, pair):
    theirs = completed(stranger, report=report_of(waves(30)))

    answers = {u.username: client_of(u).get(url_of(pair[0], theirs)) for u in (owner, staff)}

    assert (answers["owner"].status_code, answers["staff"].status_code) == (404, 200)
    assert client_of(stranger).get(url_of(*pair)).status_code == 404


def test_one_or_too_many_or_the_same_twice(api, pair):
    assert api.get(url_of(pair[0])).status_code == 400
    assert api.get(url_of(*([pair[0]] * 21))).status_code == 400
    assert api.get(url_of(pair[0], pair[0])).status_code == 400
    assert len(api.get(url_of(*pair, pair[0])).json()["tasks"]) == 2


def test_a_comparison_is_not_sent_twice_once_nothing_of_it_can_change(api, pair, make_task):
    url = url_of(*pair)
    waiting = api.get(url)
    Figure.objects.update(value={"tasks": [], "pearson": [], "rank": [], "days": []})
    ready = api.get(url)
    known = {"HTTP_IF_NONE_MATCH": ready["ETag"]}

    assert "ETag" not in waiting
    assert "ETag" not in api.get(url_of(pair[0], make_task(status=Status.RUNNING)))
    assert api.get(url, **known).status_code == 304
    assert api.get(f"{url}&points=20", **known).status_code == 200

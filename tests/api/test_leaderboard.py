"""The leaderboard: one dataset and test period, the tries behind the winner, luck as luck."""

import pytest

from tests.api.result_files import TEST_2018, completed, report_of, waves
from tests.factories import make_worker
from training import presets
from training.models import TrainingTask


def tried(owner, ratio, *, drift=0.0, **fields):
    """A completed task with that information ratio; drift: added to each day's excess return."""
    report = report_of([value + drift for value in waves(240)])
    metrics = {"information_ratio": ratio, "ic": ratio / 10, "turnover": 0.2}
    return completed(owner, report=report, metrics=metrics, **{**TEST_2018, **fields})


def test_the_best_comes_first_by_the_metric_that_is_asked_for(api, owner):
    low, high = tried(owner, 0.5), tried(owner, 1.5)

    board = api.get("/api/leaderboard").json()

    assert [row["task_id"] for row in board["results"]] == [high.id, low.id]
    assert board["results"][0]["metrics"] == {"information_ratio": 1.5, "ic": 0.15, "turnover": 0.2}
    assert board["results"][0]["place"] == 1
    assert board["board"] == {
        "dataset": "demo",
        "dataset_version": "v1",
        "test_from": "2018-01-01",
        "test_to": "2018-12-31",
    }


def test_another_period_dataset_or_version_is_another_board(api, owner):
    tried(owner, 1.0)
    other = tried(owner, 2.0, test_to="2019-12-31")
    tried(owner, 3.0, dataset_version="v2")

    asked = api.get("/api/leaderboard?test_to=2019-12-31").json()

    assert [row["task_id"] for row in asked["results"]] == [other.id]
    assert sorted(one["tries"] for one in asked["boards"]) == [1, 1, 1]
    assert api.get("/api/leaderboard?dataset=none").status_code == 404
    assert api.get("/api/leaderboard?order=owner").status_code == 400


def test_the_same_result_twice_is_one_try(api, owner):
    for ratio in (1.0, 1.0, 1.0, 2.0):
        tried(owner, ratio)

    tries = api.get("/api/leaderboard").json()["tries"]

    assert (tries["count"], tries["different"]) == (4, 2)
    assert tries["variance"] == pytest.approx(0.5 / 238)


def test_more_tries_make_the_winner_less_convincing(api, owner):
    winner = tried(owner, 2.0, drift=0.001)
    tried(owner, 0.1)
    few = api.get("/api/leaderboard").json()["results"][0]
    for number in range(20):
        tried(owner, -1 + number / 7.3)
    many = api.get("/api/leaderboard").json()["results"][0]

    assert few["task_id"] == many["task_id"] == winner.id
    assert few["probabilistic_sharpe"] == many["probabilistic_sharpe"]
    assert 0 < many["deflated_sharpe"] < few["deflated_sharpe"] < few["probabilistic_sharpe"] < 1
    assert few["days"] == 240


def test_a_board_without_its_reports_still_ranks(api, owner, settings):
    task = tried(owner, 1.0)
    place = settings.ARTIFACTS_DIR / task.id
    place.rename(away := place.with_name("away"))

    row = api.get("/api/leaderboard").json()["results"][0]
    away.rename(place)
    back = api.get("/api/leaderboard").json()["results"][0]

    assert (row["deflated_sharpe"], row["sharpe"]) == (None, None)
    assert back["sharpe"], "a file that was only away is read when it is back"


def test_everyone_sees_the_own_tries_and_staff_all(client_of, owner, staff, stranger):
    tried(owner, 1.0)
    tried(owner, 1.2)
    tried(stranger, 3.0)

    counts = {
        user.username: client_of(user).get("/api/leaderboard").json()["tries"]["count"]
        for user in (owner, staff, stranger)
    }

    assert counts == {"owner": 2, "staff": 3, "stranger": 1}


def test_a_submitted_task_knows_its_test_period_and_so_does_its_retry(api, dataset):
    presets.load_shipped()
    make_worker()
    text = api.get("/api/presets/linear-alpha158").json()["workflow"]
    task_id = api.post("/api/train", text, content_type="application/yaml").json()["task_id"]
    api.post(f"/api/tasks/{task_id}/cancel")

    retry = api.post(f"/api/tasks/{task_id}/retry").json()["task_id"]

    rows = TrainingTask.objects.filter(pk__in=[task_id, retry])
    assert len(set(rows.values_list("test_from", "test_to"))) == 1
    assert rows[0].test_from.isoformat() in rows[0].posted
    assert rows[0].test_to.isoformat() in rows[0].posted

"""Workers: who is there, what they run, and who may drain them."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tests.factories import WORKER, make_task, make_worker
from training.models import Worker
from training.states import Status

PARTS = {"owner": 403, "staff": 200, "stranger": 403, None: 401}


@pytest.fixture
def people(client_of, owner, staff, stranger):
    users = {"owner": owner, "staff": staff, "stranger": stranger, None: None}
    return {part: client_of(user) for part, user in users.items()}


def test_a_worker_tells_what_it_is_and_runs(people, owner):
    make_worker(extras=("xgboost",))
    task = make_task(owner, status=Status.RUNNING)

    seen = {part: people[part].get("/api/workers").json()["results"] for part in PARTS if part}

    for part, tasks in {"owner": [task.id], "staff": [task.id], "stranger": []}.items():
        (worker,) = seen[part]
        assert worker["tasks"] == tasks
        assert (worker["name"], worker["busy"], worker["alive"]) == (WORKER, True, True)
        assert (worker["cores"], worker["extras"]) == (2, ["xgboost"])


def test_a_silent_worker_is_not_alive_and_after_a_day_not_listed(people):
    for name, hours in (("silent", 1), ("forgotten", 25)):
        make_worker(name)
        Worker.objects.filter(name=name).update(seen_at=Now() - timedelta(hours=hours))

    listed = people["owner"].get("/api/workers").json()["results"]

    assert [(one["name"], one["alive"], one["busy"]) for one in listed] == [
        ("silent", False, False)
    ]


@pytest.mark.parametrize("part", PARTS)
def test_only_the_staff_drains_and_resumes(people, rings, part):
    make_worker()

    drained = people[part].post(f"/api/workers/{WORKER}/drain")
    was = Worker.objects.get().draining
    resumed = people[part].post(f"/api/workers/{WORKER}/resume")

    assert drained.status_code == resumed.status_code == PARTS[part]
    if part == "staff":
        assert was
        assert (drained.json()["draining"], resumed.json()["draining"]) == (True, False)
        assert rings == ["cpu"], "a resumed worker looks for tasks at once"
    else:
        assert not was
        assert rings == []
    if part == "owner":
        assert drained.json()["error"]["code"] == "not_allowed"


@pytest.mark.parametrize("name", ["nobody", "%00"])
def test_a_worker_that_is_not_there_is_404(people, name):
    assert people["staff"].post(f"/api/workers/{name}/drain").status_code == 404


def test_a_worker_that_is_not_listed_any_more_is_not_drained(people):
    make_worker("forgotten")
    Worker.objects.update(seen_at=Now() - timedelta(hours=25))

    assert people["staff"].post("/api/workers/forgotten/drain").status_code == 404
    assert not Worker.objects.get().draining


def test_a_draining_worker_serves_no_queue(people):
    make_worker()
    people["staff"].post(f"/api/workers/{WORKER}/drain")

    queues = {one["name"]: one for one in people["owner"].get("/api/queues").json()["results"]}

    assert queues["cpu"]["workers"] == 0

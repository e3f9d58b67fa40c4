"""The list, its pages and filters; what can be asked of a task."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import events_of, move, start
from tests.factories import make_task as new_task
from training.api.submit import EXAMPLE
from training.events import task_to_wire
from training.models import TrainingTask
from training.states import Status


def ids(response):
    assert response.status_code == 200, response.json()
    return [task["id"] for task in response.json()["results"]]


def pages(api, url):
    """All ids, page by page, as `next` leads."""
    while url:
        response = api.get(url)
        yield ids(response)
        url = response.json()["next"]


# ── Pages ───────────────────────────────────────────────────────────────────────────────


def test_tasks_come_newest_first_and_lists_leave_out_what_is_large(api, make_task):
    tasks = [make_task() for _ in range(3)]

    response = api.get("/api/tasks")

    newest_first = TrainingTask.objects.order_by("-created_at", "-id")
    assert ids(response) == [task.id for task in newest_first]
    assert response.json()["next"] is None
    whole = task_to_wire(TrainingTask.objects.get(pk=tasks[0].pk))
    row = next(one for one in response.json()["results"] if one["id"] == tasks[0].id)
    assert row == {name: whole[name] for name in whole if name not in {"config", "posted"}}


def test_a_list_asks_the_database_as_often_for_many_as_for_one(api, make_task):
    make_task()
    # Once before: whose token it is, is asked only now.
    api.get("/api/tasks")
    with CaptureQueriesContext(
        connection,
    ) as few:
        api.get("/api/tasks")
    for _ in range(5):
        make_task()
    with CaptureQueriesContext(connection) as many:
        api.get("/api/tasks")

    assert len(many) == len(few)
    assert not any("COUNT(" in query["sql"] for query in many)
    assert not any('"posted"' in query["sql"] for query in many)


@pytest.mark.parametrize("ordering", ["-created_at", "created_at", "-ic", "ic"])
def test_pages_have_every_task_once_while_others_come_and_go(api, make_task, ordering):
    metrics = [{"ic": 0.1}, {"ic": 0.1}, {}, {"ic": -0.2}, {"ic": 0.3}, {}, {"ic": 0.1}]
    tasks = [make_task(status=Status.COMPLETED, result={"metrics": one}) for one in metrics]
    whole = ids(api.get(f"/api/tasks?ordering={ordering}"))
    seen, known = [], {task.id for task in tasks}

    for page in pages(api, f"/api/tasks?ordering={ordering}&limit=2"):
        seen += [one for one in page if one in known]
        make_task(status=Status.COMPLETED, result={"metrics": {"ic": 0.1}})
        # The row at the end of the page goes: its place must still be known.
        TrainingTask.objects.filter(pk=page[-1]).delete()
        if len(seen) > 2 * len(tasks):
            pytest.fail("pages without end")

    assert seen == whole


def test_upwards_is_downwards_reversed_but_those_without_the_metric_come_last(api, make_task):
    def done(metrics):
        return make_task(status=Status.COMPLETED, result={"metrics": metrics}).id

    low, tie_1, none, high, tie_2 = (
        done(one) for one in ({"ic": -0.5}, {"ic": 0.1}, {}, {"ic": 0.4}, {"ic": 0.1})
    )
    ties = list(
        TrainingTask.objects.filter(ic=0.1)
        .order_by("-created_at", "-id")
        .values_list("id", flat=True)
    )

    assert set(ties) == {tie_1, tie_2}
    assert ids(api.get("/api/tasks?ordering=-ic")) == [high, *ties, low, none]
    assert ids(api.get("/api/tasks?ordering=ic")) == [low, *reversed(ties), high, none]


def test_a_cursor_of_another_order_or_another_hand_is_400(api, make_task):
    make_task(), make_task()
    cursor = api.get("/api/tasks?limit=1").json()["next"].partition("cursor=")[2]

    for query in (
        f"ordering=ic&cursor={cursor}",
        f"cursor={cursor}x",
        "cursor=%00",
        "cursor=a:b:c",
    ):
        response = api.get(f"/api/tasks?{query}")

        assert response.status_code == 400, query
        assert response.json()["error"]["fields"][0]["path"] == "cursor"


# ── Filters ─────────────────────────────────────────────────────────────────────────────


def test_each_filter_leaves_what_fits(client_of, owner, staff, stranger):
    api = client_of(staff)
    one = new_task(owner, name="Momentum 5 %", tags=["a", "b"], dataset="sp500", model="LGBModel")
    two = new_task(stranger, name="other", tags=["b"], model="Linear", status=Status.COMPLETED)

    for query, expected in {
        "status=pending": [one],
        "status=completed": [two],
        "status=pending&status=completed": [two, one],
        "owner=owner": [one],
        "owner=nobody": [],
        "dataset=sp500": [one],
        "model=Linear": [two],
        "tag=a": [one],
        "tag=b": [two, one],
        "q=mOmEnT": [one],
        "q=5 %25": [one],
        "q=_": [],
        f"q={two.id[:20]}": [two],
        "tag=b&status=pending": [one],
        "created_after=2020-01-01": [two, one],
        "created_before=2020-01-01T00:00:00Z": [],
        "created_after=9999-12-31": [],
    }.items():
        found = set(ids(api.get(f"/api/tasks?{query}")))

        assert found == {task.id for task in expected}, query


def test_created_after_is_at_or_after_and_created_before_is_before(api, make_task):
    task = make_task()
    at = task.created_at.isoformat().replace("+", "%2B")

    assert ids(api.get(f"/api/tasks?created_after={at}")) == [task.id]
    assert ids(api.get(f"/api/tasks?created_before={at}")) == []


@pytest.mark.parametrize(
    "query",
    [
        "status=running,pending",
        "status=queued",
        "ordering=name",
        "ordering=-created_at,id",
        "limit=0",
        "limit=201",
        "limit=" + "9" * 2_000,
        "limit=1e3",
        "owner=%00",
        "q=" + "x" * 201,
        "created_after=yesterday",
        "created_after=0001-01-01T00:00:00%2B23:59",
        "created_before=99999-01-01",
        "statuss=running",
        "%00=1",
    ],
)
def test_a_wrong_parameter_is_400_and_named(api, query):
    response = api.get(f"/api/tasks?{query}")

    error = response.json()["error"]
    assert response.status_code == 400
    assert error["code"] == "invalid_request"
    assert error["fields"][0]["message"]


def test_an_empty_parameter_is_one_not_given(api, make_task):
    """So a form of a page can be sent as it is."""
    task = make_task()

    assert ids(api.get("/api/tasks?limit=&tag=&q=&status=&cursor=")) == [task.id]


def test_broken_utf8_in_a_parameter_finds_nothing(api, make_task):
    make_task(name="x")

    assert ids(api.get("/api/tasks?q=%ff%fe")) == []
    assert ids(api.get("/api/tasks?q=%ed%a0%80")) == []


# ── Acting ──────────────────────────────────────────────────────────────────────────────


def test_a_pending_task_is_cancelled_at_once_and_a_running_one_is_asked(api, make_task):
    pending, running = make_task(), make_task(status=Status.RUNNING)

    first = api.post(f"/api/tasks/{pending.id}/cancel")
    second = api.post(f"/api/tasks/{running.id}/cancel")
    again = api.post(f"/api/tasks/{running.id}/cancel")

    assert [one.status_code for one in (first, second, again)] == [202, 202, 202]
    assert first.json()["status"] == "cancelled"
    assert second.json()["status"] == "running"
    assert second.json()["cancel_requested_at"]
    assert again.json() == second.json()
    assert events_of(running) == ["created", "started", "cancel_requested"]


@pytest.mark.parametrize("action", ["cancel", "finish"])
@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_a_final_task_takes_no_wishes(api, make_task, action, status):
    task = make_task(status=status)
    before = events_of(task)

    response = api.post(f"/api/tasks/{task.id}/{action}")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "already_finished"
    assert events_of(task) == before


def test_finishing_early_fits_a_running_fit_only(api, make_task):
    pending, running = make_task(), make_task(status=Status.RUNNING)

    refused = api.post(f"/api/tasks/{pending.id}/finish")
    taken = api.post(f"/api/tasks/{running.id}/finish")

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "not_fitting"
    assert taken.status_code == 202
    assert taken.json()["finish_requested_at"]


def test_what_is_being_cancelled_is_not_finished_early(api, make_task):
    running = make_task(status=Status.RUNNING)
    api.post(f"/api/tasks/{running.id}/cancel")

    refused = api.post(f"/api/tasks/{running.id}/finish")

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_fitting")
    assert "being cancelled" in refused.json()["error"]["message"]


def test_a_pinned_task_is_not_deleted_until_it_is_let_go(api, make_task):
    url = f"/api/tasks/{make_task(status=Status.COMPLETED).id}"

    pinned = api.post(f"{url}/pin").json()["pinned"]
    refused = api.delete(url)
    unpinned = api.post(f"{url}/unpin").json()["pinned"]

    assert (pinned, unpinned) == (True, False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "pinned")
    assert api.delete(url).status_code == 204


def test_one_task_takes_no_parameters(api, make_task):
    assert api.get(f"/api/tasks/{make_task().id}?verbose=1").status_code == 400


def test_a_retry_is_a_new_task_with_the_same_config(api, make_task, dataset, rings):
    old = make_task(status=Status.FAILED, name="n", tags=["t"], config=EXAMPLE, warnings=["old"])

    response = api.post(f"/api/tasks/{old.id}/retry")

    told = response.json()
    new = TrainingTask.objects.get(pk=told["task_id"])
    assert response.status_code == 201
    assert response["Location"] == f"/api/tasks/{new.id}"
    assert new.id != old.id
    assert (new.retry_of_id, new.config, new.name, new.status) == (
        old.id, old.config, "n", Status.PENDING,
    )  # fmt: skip
    assert new.dataset_version == dataset.version
    assert {one["path"] for one in new.warnings} == {
        "task.dataset.kwargs.segments.train.1",
        "task.dataset.kwargs.segments.valid.1",
    }
    assert rings == ["cpu"]


def test_a_retry_is_checked_against_what_there_is_now(api, make_task, dataset, rings):
    old = make_task(status=Status.FAILED, config=EXAMPLE)
    days = dataset.manifest["days"]
    dataset.manifest["days"] = [day for day in days if day < "2017-06"]
    dataset.version = "v2"
    dataset.save()

    refused = api.post(f"/api/tasks/{old.id}/retry")
    dataset.delete()
    gone = api.post(f"/api/tasks/{old.id}/retry")

    for response, place in ((refused, "task.dataset.kwargs.segments.test"), (gone, "qlib_init")):
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "invalid_config")
        assert error["fields"][0]["path"].startswith(place)
    assert TrainingTask.objects.count() == 1
    assert rings == []


def test_a_retry_of_what_no_worker_has_is_refused_like_a_submission(api, make_task, dataset):
    xgboost = {"class": "XGBModel", "module_path": "qlib.contrib.model.xgboost", "kwargs": {}}
    config = {**EXAMPLE, "task": {**EXAMPLE["task"], "model": xgboost}}
    old = make_task(status=Status.FAILED, config=config)
    waits = make_task(
        status=Status.FAILED, config={**config, "platform": {"when_no_worker": "wait"}}
    )

    refused = api.post(f"/api/tasks/{old.id}/retry")
    waiting = api.post(f"/api/tasks/{waits.id}/retry")

    assert "needs xgboost" in refused.json()["error"]["fields"][0]["message"]
    assert waiting.status_code == 201
    new = TrainingTask.objects.get(pk=waiting.json()["task_id"])
    assert new.needs == "xgboost"
    assert any("needs xgboost" in one["message"] for one in new.warnings)


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
def test_an_open_task_is_neither_retried_nor_deleted(api, make_task, dataset, status):
    task = make_task(status=status)

    for response in (api.post(f"/api/tasks/{task.id}/retry"), api.delete(f"/api/tasks/{task.id}")):
        assert response.status_code == 409
        assert response.json()["error"]["code"] == "not_finished"
    assert TrainingTask.objects.count() == 1


def test_a_deleted_task_is_gone_with_its_files(api, make_task, settings):
    task = make_task(status=Status.COMPLETED)
    folder = settings.ARTIFACTS_DIR / task.id / "1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("x")

    response = api.delete(f"/api/tasks/{task.id}")

    assert (response.status_code, response.content) == (204, b"")
    assert not folder.parent.exists()
    assert api.get(f"/api/tasks/{task.id}").status_code == 404
    assert api.delete(f"/api/tasks/{task.id}").status_code == 404


def test_a_pinned_task_is_not_deleted(api, make_task):
    task = make_task(status=Status.COMPLETED, pinned=True)

    response = api.delete(f"/api/tasks/{task.id}")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "pinned"


# ── Events ──────────────────────────────────────────────────────────────────────────────


def test_events_come_after_a_number_oldest_first_and_by_page(api, make_task):
    task = make_task()
    start(task)
    TrainingTask.objects.get(pk=task.pk)
    url = f"/api/tasks/{task.id}/events"

    whole = api.get(url).json()
    first = api.get(f"{url}?limit=1").json()
    second = api.get(first["next"]).json()

    assert [(one["seq"], one["type"]) for one in whole["results"]] == [
        (1, "created"),
        (2, "started"),
    ]
    assert whole["next"] is None
    assert first["results"] + second["results"] == whole["results"]
    assert second["next"] is None
    assert api.get(f"{url}?after=2").json()["results"] == []
    assert api.get(f"{url}?after=2147483647").json()["results"] == []


@pytest.mark.parametrize("query", ["after=-1", "after=2147483648", "after=x", "limit=1001", "x=1"])
def test_a_wrong_place_in_the_events_is_400(api, make_task, query):
    assert api.get(f"/api/tasks/{make_task().id}/events?{query}").status_code == 400


def test_the_task_as_answered_is_the_task_of_the_snapshot(api, make_task):
    task = make_task(status=Status.RUNNING)
    move(make_task(), Status.CANCELLED)

    assert api.get(f"/api/tasks/{task.id}").json() == task_to_wire(task)

"""Who may: every route is tried by the owner, by staff, by a stranger and by nobody."""

import pytest
from django.urls import get_resolver

from tests.factories import make_task as new_task
from training import tokens
from training.api.submit import EXAMPLE
from training.states import Status

NOBODY, OWNER, STAFF, STRANGER = "nobody", "owner", "staff", "stranger"

# name of the route: (method, status of the task, answers to owner and staff, to a stranger)
TASK_ROUTES = {
    "task": [("get", Status.PENDING, 200), ("delete", Status.COMPLETED, 204)],
    "task-cancel": [("post", Status.PENDING, 202)],
    "task-finish": [("post", Status.RUNNING, 202)],
    "task-pin": [("post", Status.PENDING, 200)],
    "task-unpin": [("post", Status.PENDING, 200)],
    "task-retry": [("post", Status.FAILED, 201)],
    "task-events": [("get", Status.PENDING, 200)],
    "task-log": [("get", Status.PENDING, 200)],
    "task-metrics": [("get", Status.PENDING, 200)],
    "task-report": [("get", Status.RUNNING, 409)],
    "task-predictions": [("get", Status.RUNNING, 409)],
    "task-positions": [("get", Status.RUNNING, 409)],
    "task-artifacts": [("get", Status.COMPLETED, 200)],
    # Nothing was saved: that there is no such file is for those to know who may see the task.
    "task-artifact": [("get", Status.COMPLETED, 404)],
}
SIGNED_IN = {
    "train": ("post", "/api/train", 400),
    # An empty body is one more workflow with a fault.
    "validate": ("post", "/api/validate", 200),
    "tasks": ("get", "/api/tasks", 200),
    "datasets": ("get", "/api/datasets", 200),
    "features": ("get", "/api/features", 200),
    # There is no dataset to fit them to.
    "presets": ("get", "/api/presets", 404),
    "preset": ("get", "/api/presets/lightgbm-alpha158", 404),
    "workers": ("get", "/api/workers", 200),
    # Nothing has been completed.
    "leaderboard": ("get", "/api/leaderboard", 404),
    # Two tasks are needed.
    "compare": ("get", "/api/compare", 400),
    "dataset": ("get", "/api/datasets/none", 404),
    "queues": ("get", "/api/queues", 200),
    "schema": ("get", "/api/schema", 200),
    "docs": ("get", "/api/docs", 200),
}
EVERYONE = {
    "healthz": ("/healthz", 200),
    "docs-asset": ("/api/docs/swagger-ui.css", 200),
    "nowhere": ("/api/nowhere", 404),
}
ELSEWHERE = {
    "readyz": "tests/api/test_health.py",
    "metrics": "tests/api/test_metrics.py",
    "worker-drain": "tests/api/test_workers.py",
    "worker-resume": "tests/api/test_workers.py",
}


def routes():
    """The names of the API's own routes."""
    api = next(
        one
        for one in get_resolver().url_patterns
        if hasattr(one, "urlconf_name")
        and getattr(one.urlconf_name, "__name__", "") == "training.api.urls"
    )
    return {pattern.name for pattern in api.url_patterns}


def test_every_route_is_in_one_of_the_tables():
    tried = [*TASK_ROUTES, *SIGNED_IN, *EVERYONE, *ELSEWHERE]

    assert sorted(tried) == sorted(routes())


@pytest.fixture
def people(client_of, owner, staff, stranger):
    users = {OWNER: owner, STAFF: staff, STRANGER: stranger, NOBODY: None}
    return {part: client_of(user) for part, user in users.items()}


TASK_CASES = [(name, *case) for name, cases in TASK_ROUTES.items() for case in cases]


@pytest.mark.parametrize("part", [OWNER, STAFF, STRANGER, NOBODY])
@pytest.mark.parametrize(("name", "method", "status", "answer"), TASK_CASES)
def test_a_task_is_for_its_owner_and_staff_alone(
    people, owner, dataset, part, name, method, status, answer
):
    task = new_task(owner, status=status, config=EXAMPLE)
    path = {"task": "", "task-artifact": "/artifacts/model.txt"}.get(name, "/" + name[5:])

    response = getattr(people[part], method)(f"/api/tasks/{task.id}{path}")

    expected = {STRANGER: 404, NOBODY: 401}.get(part, answer)
    assert response.status_code == expected
    if part == STRANGER:
        missing = people[part].get("/api/tasks/task-00000000-0000-0000-0000-000000000000")
        assert response.json()["error"]["code"] == missing.json()["error"]["code"] == "not_found"


def test_what_a_stranger_tried_has_changed_nothing(people, owner, dataset):
    task = new_task(owner, status=Status.RUNNING)

    for action in ("cancel", "finish", "retry"):
        people[STRANGER].post(f"/api/tasks/{task.id}/{action}")
    people[STRANGER].delete(f"/api/tasks/{task.id}")

    before, seq = task.cancel_requested_at, task.last_seq
    task.refresh_from_db()
    assert (task.cancel_requested_at, task.last_seq) == (before, seq)


@pytest.mark.parametrize("part", [OWNER, STAFF, STRANGER, NOBODY])
@pytest.mark.parametrize(("method", "path", "answer"), SIGNED_IN.values())
def test_what_is_common_is_for_everybody_who_is_signed_in(people, part, method, path, answer):
    response = getattr(people[part], method)(path)

    assert response.status_code == (401 if part == NOBODY else answer)


@pytest.mark.parametrize("part", [OWNER, STAFF, STRANGER, NOBODY])
@pytest.mark.parametrize(("path", "answer"), EVERYONE.values())
def test_what_is_open_is_open_to_everybody(people, part, path, answer):
    assert people[part].get(path).status_code == answer


@pytest.mark.parametrize(("part", "count"), [(OWNER, 2), (STAFF, 3), (STRANGER, 1)])
def test_the_list_has_the_callers_own_tasks_and_all_for_staff(people, owner, stranger, part, count):
    for user in (owner, owner, stranger):
        new_task(user)

    assert len(people[part].get("/api/tasks").json()["results"]) == count


def test_a_session_reads_without_and_writes_only_with_its_csrf_token(make_task, owner):
    from rest_framework.test import APIClient

    client = APIClient(enforce_csrf_checks=True)
    client.force_login(owner)
    task = make_task()

    read = client.get(f"/api/tasks/{task.id}")
    refused = client.post(f"/api/tasks/{task.id}/cancel")
    client.get("/admin/login/")
    token = client.cookies["csrftoken"].value if "csrftoken" in client.cookies else "x" * 32
    client.cookies["csrftoken"] = token
    taken = client.post(f"/api/tasks/{task.id}/cancel", HTTP_X_CSRFTOKEN=token)

    assert read.status_code == 200
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "csrf_failed"
    assert taken.status_code == 202


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer nope", "Bearer qp_" + "a" * 64, "Bearer ä\x80", "bearer x y"],
)
def test_a_wrong_token_is_401_whatever_is_wrong_with_it(client_of, header):
    response = client_of(None).get("/api/tasks", HTTP_AUTHORIZATION=header)

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "authentication_failed"
    assert response["WWW-Authenticate"] == "Bearer"


def test_the_token_of_a_user_who_was_shut_out_is_401_a_second_later_at_most(
    api, owner, monkeypatch
):
    clock = [100.0]
    monkeypatch.setattr(tokens, "monotonic", lambda: clock[0])
    assert api.get("/api/tasks").status_code == 200
    owner.is_active = False
    owner.save(update_fields=["is_active"])

    clock[0] += tokens.RECENT_S

    assert api.get("/api/tasks").status_code == 401
    clock[0] -= tokens.RECENT_S
    assert api.get("/api/tasks").status_code == 401


def test_a_token_that_was_just_read_is_not_asked_for_again(api, django_assert_num_queries):
    api.get("/api/tasks")

    with django_assert_num_queries(1):
        api.get("/api/tasks")

"""One shape of errors, wherever they come from."""

import pytest

from training import errors, services
from training.api import tasks
from training.api.errors import STATUS_OF, body


def subclasses(kind):
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def test_every_error_of_the_core_has_an_answer_or_is_no_callers():
    internal = {"Fenced"}
    core = {one for one in subclasses(errors.TrainingError) if one.__module__ == errors.__name__}

    assert {one.__name__ for one in core - set(STATUS_OF)} == internal


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("get", "/api", {}, 404, "not_found"),
        ("get", "/api/", {}, 404, "not_found"),
        ("get", "/api/tasks/", {}, 404, "not_found"),
        ("post", "/api/nope", {}, 404, "not_found"),
        ("get", "/api/tasks/1", {}, 404, "not_found"),
        ("get", "/api/tasks/task-%00", {}, 404, "not_found"),
        ("get", "/api/tasks/TASK-00000000-0000-0000-0000-000000000000", {}, 404, "not_found"),
        ("get", "/api/docs/nope.js", {}, 404, "not_found"),
        ("put", "/api/tasks", {}, 405, "method_not_allowed"),
        ("get", "/api/train", {}, 405, "method_not_allowed"),
        ("get", "/api/tasks", {"HTTP_ACCEPT": "image/png"}, 406, "not_acceptable"),
        ("get", "/api/tasks", {"HTTP_HOST": "evil.example"}, 400, "invalid_request"),
        ("get", "/api/tasks?limit=0", {}, 400, "invalid_request"),
    ],
)
def test_every_refusal_has_the_one_shape(api, method, path, headers, status, code):
    response = getattr(api, method)(path, **headers)

    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert set(error) <= {"code", "message", "fields"}


def test_the_page_of_the_schema_has_its_errors_in_the_same_shape(client_of):
    response = client_of(None).get("/api/docs", HTTP_ACCEPT="text/html")

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_authenticated"


def test_what_breaks_on_our_side_is_told_without_its_insides(api, make_task, monkeypatch):
    def broken(*_: object, **__: object):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(tasks, "_to_wire", broken)
    response = api.get(f"/api/tasks/{make_task().id}")

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert b"hunter2" not in response.content


def test_a_fenced_error_that_slips_out_is_our_own_mistake(api, make_task, monkeypatch):
    def fenced(*_: object, **__: object):
        raise errors.Fenced("not yours")

    monkeypatch.setattr(services, "cancel", fenced)

    assert api.post(f"/api/tasks/{make_task().id}/cancel").status_code == 500


def test_an_error_repeats_a_callers_text_only_repaired(api):
    fields = api.get("/api/tasks?%00x=1").json()["error"]["fields"]

    assert fields[0]["path"] == "\ufffdx"
    assert body("c", "\ud800") == {"error": {"code": "c", "message": "?"}}


def test_other_pages_keep_djangos_own_errors(api):
    response = api.get("/admin/nope", HTTP_HOST="evil.example")

    assert response.status_code == 400
    assert response["Content-Type"].startswith("text/html")

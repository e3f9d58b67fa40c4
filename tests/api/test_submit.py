"""POST /api/train: what goes in, and what is kept out before anything is made."""

import json
from datetime import timedelta

import pytest
import yaml
from django.db.models.functions import Now

from tests.factories import events_of
from training.api.bodies import MAX_BYTES
from training.api.submit import EXAMPLE
from training.models import IdempotencyKey, TrainingTask

pytestmark = pytest.mark.usefixtures("dataset")

JSON, YAML = "application/json", "application/yaml"


def post(api, body, content_type=JSON, **headers):
    if isinstance(body, dict):
        body = json.dumps(body)
    return api.generic("POST", "/api/train", body, content_type=content_type, **headers)


def test_the_example_of_the_schema_becomes_a_pending_task_and_rings(api, rings):
    response = post(api, EXAMPLE)

    told = response.json()
    task = TrainingTask.objects.get()
    assert response.status_code == 201, told
    assert (told["task_id"], told["status"]) == (task.id, "success")
    assert response["Location"] == f"/api/tasks/{task.id}"
    assert told["task"] == api.get(response["Location"]).json()
    assert told["warnings"] == task.warnings
    assert (task.name, task.tags, task.dataset) == ("my first", ["try"], "demo")
    assert json.loads(task.posted) == EXAMPLE
    assert events_of(task) == ["created"]
    assert rings == ["cpu"]


@pytest.mark.parametrize(
    "kind", [YAML, "text/yaml", "application/x-yaml", "Text/YAML; charset=UTF-8"]
)
def test_the_same_as_yaml_makes_the_same_config(api, kind):
    as_json = post(api, EXAMPLE).json()["task"]
    as_yaml = post(api, yaml.safe_dump(EXAMPLE), kind)

    assert as_yaml.status_code == 201, as_yaml.json()
    assert as_yaml.json()["task"]["config"] == as_json["config"]


def test_no_content_type_is_json(api):
    assert post(api, EXAMPLE, "").status_code == 201


def test_a_session_with_its_csrf_token_submits_yaml(client_of, owner):
    """The framework's CSRF check asks for the parsed body: it must leave the raw one to us."""
    client = client_of(None)
    client.force_login(owner)
    client.handler.enforce_csrf_checks = True
    client.cookies["csrftoken"] = "x" * 32

    response = post(client, yaml.safe_dump(EXAMPLE), YAML, HTTP_X_CSRFTOKEN="x" * 32)

    assert response.status_code == 201, response.json()


def test_every_fault_is_told_and_nothing_is_made(api, rings):
    wrong = json.loads(json.dumps(EXAMPLE))
    wrong["task"]["model"]["kwargs"]["num_leave"] = 3
    wrong["platform"]["priority"] = "urgent"

    response = post(api, wrong)

    error = response.json()["error"]
    assert response.status_code == 400
    assert error["code"] == "invalid_config"
    assert {"task.model.kwargs.num_leave", "platform.priority"} <= {
        f["path"] for f in error["fields"]
    }
    assert not TrainingTask.objects.exists()
    assert rings == []


def test_a_fault_in_yaml_has_its_line(api):
    text = yaml.safe_dump(EXAMPLE, sort_keys=False).replace("priority: normal", "priority: urgent")
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "urgent" in one)

    fields = post(api, text, YAML).json()["error"]["fields"]

    assert [field["line"] for field in fields if field["path"] == "platform.priority"] == [line]


# ── The same key ────────────────────────────────────────────────────────────────────────


def test_the_same_key_answers_200_with_the_first_task(api, rings):
    first = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1")
    second = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1")

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["task_id"] == second.json()["task_id"]
    assert first["Location"] == second["Location"]
    assert TrainingTask.objects.count() == 1
    assert rings == ["cpu"]


def test_the_same_key_with_another_body_is_409(api):
    post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1")
    response = post(api, {**EXAMPLE, "platform": {"name": "other"}}, HTTP_IDEMPOTENCY_KEY="k1")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "idempotency_conflict"


def test_a_key_is_forgotten_after_a_day(api):
    first = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1").json()["task_id"]
    IdempotencyKey.objects.update(created_at=Now() - timedelta(hours=25))

    second = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1")
    third = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1")

    assert second.status_code == 201
    assert second.json()["task_id"] == third.json()["task_id"] != first


def test_a_key_goes_with_its_task(api):
    first = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1").json()["task_id"]
    api.post(f"/api/tasks/{first}/cancel")
    api.delete(f"/api/tasks/{first}")

    assert post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1").status_code == 201


def test_two_users_may_have_the_same_key(api, client_of, stranger):
    mine = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1").json()["task_id"]
    theirs = post(client_of(stranger), EXAMPLE, HTTP_IDEMPOTENCY_KEY="k1")

    assert theirs.status_code == 201
    assert theirs.json()["task_id"] != mine


@pytest.mark.parametrize("key", ["", " ", "k" * 129, "a b", "a\0b", "ä"])
def test_a_key_that_is_none_is_400(api, key):
    response = post(api, EXAMPLE, HTTP_IDEMPOTENCY_KEY=key)

    assert response.status_code == 400
    assert response.json()["error"]["fields"][0]["path"] == "Idempotency-Key"


# ── Kinds and sizes ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/json; charset=utf-16",
        "application/octet-stream",
        "nonsense",
    ],
)
def test_other_kinds_of_body_are_415(api, kind):
    response = post(api, EXAMPLE, kind)

    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


def test_a_packed_body_is_415(api):
    assert post(api, b"\x1f\x8b", HTTP_CONTENT_ENCODING="gzip").status_code == 415


@pytest.mark.parametrize("kind", [JSON, YAML])
def test_a_body_over_its_limit_is_413_and_one_at_it_is_read(api, kind):
    over = post(api, b" " * (MAX_BYTES[kind] + 1), kind)
    at = post(api, json.dumps(EXAMPLE).encode().ljust(MAX_BYTES[kind]), kind)

    assert over.status_code == 413
    assert over.json()["error"]["code"] == "too_large"
    assert at.status_code == 201, at.json()


def test_a_body_is_counted_where_its_length_is_not_said(rf, owner):
    """As with chunked encoding: no Content-Length, the server reads to the end."""
    import io

    from rest_framework.test import force_authenticate

    from training.api.submit import Train

    request = rf.generic("POST", "/api/train", b"{}", content_type=JSON)
    del request.META["CONTENT_LENGTH"]
    request._stream = io.BytesIO(b" " * (MAX_BYTES[JSON] + 10))
    force_authenticate(request, owner)

    response = Train.as_view()(request)

    assert response.status_code == 413
    assert request._stream.read() == b" " * 9


def test_what_the_length_says_is_refused_before_a_byte_is_read(rf, owner):
    from rest_framework.test import force_authenticate

    from training.api.submit import Train

    request = rf.generic("POST", "/api/train", b"{}", content_type=JSON)
    request.META["CONTENT_LENGTH"] = str(10**9)
    force_authenticate(request, owner)

    response = Train.as_view()(request)

    assert response.status_code == 413
    assert not request._read_started


# ── Hostile bodies ──────────────────────────────────────────────────────────────────────

HOSTILE = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
    "a list": b"[]",
    "cut": b'{"task": {',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "closed deep lists": b"[" * 100_000 + b"]" * 100_000,
    "a huge integer": b'{"task": ' + b"9" * 5_000 + b"}",
    "a huge float": b'{"task": 1e999}',
    "NaN": b'{"task": NaN}',
    "NUL": b'{"task": "\\u0000"}',
    "NUL in a key": b'{"\\u0000": 1}',
    "a raw NUL": b'{"task": "\0"}',
    "a lone surrogate": b'{"task": "\\ud800"}',
    "a lone surrogate in a key": b'{"\\ud800": 1}',
    "a name with a surrogate": json.dumps({**EXAMPLE, "platform": {"name": "\ud800"}}).encode(),
    "a name with NUL": json.dumps({**EXAMPLE, "platform": {"name": "\0"}}).encode(),
    "tags with NUL": json.dumps({**EXAMPLE, "platform": {"tags": ["\0"]}}).encode(),
    "Latin-1": '{"täsk": 1}'.encode("latin-1"),
    "UTF-16": json.dumps(EXAMPLE).encode("utf-16"),
    "a byte order mark, broken": b"\xef\xbb\xff{}",
    "twice the same key": b'{"task": 1, "task": 2}',
    "many keys": json.dumps({str(n): n for n in range(20_000)}).encode(),
    "many nodes": b"[" + b"1," * 150_000 + b"1]",
    "aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 106)
    ),
    "a python tag": b"!!python/object/apply:os.system ['true']",
    "a recursive alias": b"a: &a [*a]",
}


@pytest.mark.parametrize("kind", [JSON, YAML])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bodies_are_refused_in_the_one_shape(api, body, kind):
    response = post(api, body, kind)

    error = json.loads(response.content, parse_constant=pytest.fail)["error"]
    assert response.status_code in {400, 413}, error
    assert error["code"] in {"invalid_config", "too_large"}
    assert error["message"]
    assert not TrainingTask.objects.exists()

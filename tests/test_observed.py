"""Requests counted by route, ids of requests and tasks on every line of the log."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from qlibplatform.observed import observed, route_of
from training import tracing

TASK = "task-11111111-2222-3333-4444-555555555555"
ROOT = Path(__file__).resolve().parent.parent


async def answer(scope, receive, send):
    logging.getLogger("app").warning("at work")
    await send({"type": "http.response.start", "status": 202, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body"})


async def call(path, *, method="GET", headers=(), application=answer):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": list(headers)}
    await observed(application)(scope, None, send)
    return dict(sent[0]["headers"])


def count(**labels):
    return REGISTRY.get_sample_value("qlibplatform_http_seconds_count", labels) or 0


async def test_a_request_is_counted_under_its_route_not_its_task():
    labels = {"method": "POST", "route": "/api/tasks/<task:task_id>/cancel", "status": "202"}
    before = count(**labels)

    await call(f"/api/tasks/{TASK}/cancel", method="POST")

    assert count(**labels) == before + 1


async def test_a_request_that_breaks_is_counted_as_a_500():
    async def breaks(scope, receive, send):
        raise ZeroDivisionError

    labels = {"method": "GET", "route": "/healthz", "status": "500"}
    before = count(**labels)
    with pytest.raises(ZeroDivisionError):
        await call("/healthz", application=breaks)

    assert count(**labels) == before + 1


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (f"/api/tasks/{TASK}/artifacts/a/b.pkl", "/api/tasks/<task:task_id>/artifacts/<path:path>"),
        ("/admin.php", "nowhere"),
        ("/static/x.css", "static"),
        ("/" + "x" * 300, "long"),
    ],
)
def test_whatever_is_asked_for_there_are_few_routes(path, route):
    assert route_of(path) == route


async def test_the_proxys_request_id_is_kept_and_any_other_text_replaced():
    kept = await call("/healthz", headers=[(b"x-request-id", b"abcdef-0123")])
    made = await call("/healthz", headers=[(b"x-request-id", b"evil\nline" * 9)])

    assert kept[b"x-request-id"] == b"abcdef-0123"
    assert len(made[b"x-request-id"]) == 32


def test_a_line_carries_the_ids_of_its_request_and_task():
    code = (
        "import django, logging; django.setup(); from training import tracing\n"
        "with tracing.about(request_id='r-1', task_id='t-1'):\n"
        "    logging.getLogger('x').warning('hello %s', 'you')\n"
        "tracing.stamp_process(task_id='t-2'); logging.getLogger('x').error('after')\n"
    )

    def lines(log_format):
        told = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={
                "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
                "PLATFORM_SECRET_KEY": "x" * 50,
                "PLATFORM_LOG_FORMAT": log_format,
            },
        )
        return told.stderr.splitlines()

    first, second = map(json.loads, lines("json"))
    plain = lines("plain")

    assert first.items() >= {
        "message": "hello you", "level": "WARNING", "logger": "x",
        "request_id": "r-1", "task_id": "t-1",
    }.items()  # fmt: skip
    assert "at" in first
    assert (second["task_id"], "request_id" in second) == ("t-2", False)
    assert plain[0].endswith("WARNING x: hello you [request_id=r-1 task_id=t-1]")


def test_ids_end_with_their_block():
    record = logging.makeLogRecord({})
    with tracing.about(request_id="r-1"):
        pass

    tracing.Ids().filter(record)

    assert record.about == ""

"""Log, curves and artifacts: rows while it runs, files afterwards, the same to the reader."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime

import pytest

from training import archive, attempt_log, lifecycle
from training.lifecycle import News
from training.models import LogChunk, MetricPoint
from training.states import Status

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def body_of(response):
    """A download's bytes; it streams asynchronously, for ASGI."""

    if response.streaming and not response.is_async:
        return b"".join(response)

    async def gather():
        return b"".join([block async for block in response.streaming_content])

    return asyncio.run(gather()) if response.streaming else response.content


def say(task, text, offset):
    lifecycle.report(task.id, News(log=text, log_offset=offset), attempt=task.attempt)


def keep(task, name, text):
    folder = archive.folder(task)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


# ── Log ─────────────────────────────────────────────────────────────────────────────────


def test_the_log_grows_from_rows_and_stays_the_same_as_a_file(api, make_task):
    task = make_task(status=Status.RUNNING)
    url = f"/api/tasks/{task.id}/log"
    first, second = "α line\n", "next\n"
    say(task, first, 0)

    early = api.get(f"{url}?offset=0")
    say(task, second, len(first.encode()))
    rest = api.get(f"{url}?offset={early['X-Log-Next-Offset']}")
    whole = api.get(url)
    lifecycle.complete(task.id, attempt=1, result={})
    keep(task, "log.txt", first + second)
    archive.clear_rows(task)
    task.refresh_from_db()
    after = api.get(url)
    tail = api.get(f"{url}?offset={early['X-Log-Next-Offset']}")

    assert early.content.decode() == first
    assert early["Content-Type"] == whole["Content-Type"] == "text/plain; charset=utf-8"
    assert (early["X-Log-Complete"], early["X-Log-Attempt"]) == ("false", "1")
    assert rest.content.decode() == second
    assert body_of(whole) == body_of(after) == (first + second).encode()
    assert not LogChunk.objects.exists()
    assert tail.content.decode() == second
    assert (tail["X-Log-Complete"], tail["X-Log-Next-Offset"]) == ("true", after["Content-Length"])


def test_an_offset_inside_a_chunk_cuts_it_and_one_behind_the_end_is_empty(api, make_task):
    task = make_task(status=Status.RUNNING)
    say(task, "0123456789", 0)
    say(task, "abc", 10)
    url = f"/api/tasks/{task.id}/log"

    assert api.get(f"{url}?offset=7").content == b"789abc"
    assert api.get(f"{url}?offset=11").content == b"bc"
    behind = api.get(f"{url}?offset=9223372036854775807")
    assert (behind.content, behind["X-Log-Next-Offset"]) == (b"", "9223372036854775807")


@pytest.mark.parametrize("kept", [False, True])
def test_a_long_log_comes_in_parts_and_no_character_is_cut(api, make_task, monkeypatch, kept):
    monkeypatch.setattr(attempt_log, "MAX_BYTES", 10)
    task = make_task(status=Status.RUNNING)
    text = "ääöü€" * 7
    say(task, text, 0)
    if kept:
        keep(task, "log.txt", text)
    url, offset, parts = f"/api/tasks/{task.id}/log", 0, []

    for _ in range(100):
        part = api.get(f"{url}?offset={offset}")
        parts.append(part.content.decode())
        offset = int(part["X-Log-Next-Offset"])
        if not part.content:
            break

    assert "".join(parts) == text
    assert max(len(part.encode()) for part in parts) <= 10
    whole = api.get(url)
    assert (body_of(whole).decode(), whole["X-Log-Complete"]) == (text, "false")
    assert whole["Content-Length"] == whole["X-Log-Next-Offset"] == str(len(text.encode()))
    head = api.head(url)
    assert (head.content, head["Content-Length"]) == (b"", whole["Content-Length"])


def test_a_log_of_no_attempt_is_empty_and_one_of_a_coming_attempt_404(api, make_task):
    task = make_task()

    none = api.get(f"/api/tasks/{task.id}/log")

    assert (none.status_code, body_of(none), none["X-Log-Complete"]) == (200, b"", "false")
    assert api.get(f"/api/tasks/{task.id}/log?attempt=1").status_code == 404
    assert api.get(f"/api/tasks/{task.id}/log?attempt=0").status_code == 400


def test_the_log_takes_no_heed_of_accept_and_its_errors_are_json(api, make_task):
    task = make_task(status=Status.RUNNING)

    assert api.get(f"/api/tasks/{task.id}/log", HTTP_ACCEPT="image/png").status_code == 200
    error = api.get(f"/api/tasks/{task.id}/log?offset=-1", HTTP_ACCEPT="image/png")
    assert error.json()["error"]["fields"][0]["path"] == "offset"


# ── Curves ──────────────────────────────────────────────────────────────────────────────


def test_curves_come_by_name_and_step_from_rows_and_then_from_the_file(api, make_task):
    task = make_task(status=Status.RUNNING)
    points = (("v", 2, 0.5, AT), ("t", 1, 1.0, AT), ("v", 1, float("nan"), AT))
    lifecycle.report(task.id, News(points=points), attempt=1)
    url = f"/api/tasks/{task.id}/metrics"

    live = api.get(url).json()
    at = "2026-01-02T03:04:05Z"
    kept = [{"name": n, "step": s, "value": v, "at": at} for n, s, v, _ in points]
    keep(task, "curves.json", json.dumps(kept))
    MetricPoint.objects.all().delete()
    archived = api.get(url)

    assert b"NaN" not in archived.content
    assert live == archived.json() == {
        "results": [
            {"name": "t", "step": 1, "value": 1.0, "at": at},
            {"name": "v", "step": 1, "value": None, "at": at},
            {"name": "v", "step": 2, "value": 0.5, "at": at},
        ],
        "next": None,
    }  # fmt: skip
    assert [one["step"] for one in api.get(f"{url}?name=v").json()["results"]] == [1, 2]
    assert api.get(f"{url}?name=w").json()["results"] == []


def test_a_thinned_curve_keeps_its_ends_its_spike_and_its_number(api, make_task):
    task = make_task(status=Status.RUNNING)
    curve = [
        {"name": name, "step": n, "value": 9.0 if n == 437 else n / 1e3, "at": "x"}
        for name in ("a", "b")
        for n in range(1_000)
    ]
    keep(task, "curves.json", json.dumps(curve))

    results = api.get(f"/api/tasks/{task.id}/metrics?points=20").json()["results"]

    for name in ("a", "b"):
        steps = [one["step"] for one in results if one["name"] == name]
        assert len(steps) == 20
        assert steps == sorted(set(steps))
        assert {0, 437, 999} <= set(steps)


def test_curves_of_a_final_task_are_not_sent_twice(api, make_task):
    running, final = make_task(status=Status.RUNNING), make_task(status=Status.COMPLETED)
    keep(final, "curves.json", json.dumps([{"name": "a", "step": 1, "value": 1.0, "at": "x"}]))

    first = api.get(f"/api/tasks/{final.id}/metrics")
    known = {"HTTP_IF_NONE_MATCH": first["ETag"]}

    assert "ETag" not in api.get(f"/api/tasks/{running.id}/metrics")
    assert api.get(f"/api/tasks/{final.id}/metrics", **known).status_code == 304
    assert api.get(f"/api/tasks/{final.id}/metrics?name=a", **known).status_code == 200


def test_curves_come_in_pages_with_every_point_once(api, make_task, monkeypatch):
    from training.api import curves

    monkeypatch.setattr(curves, "PAGE", 3)
    task = make_task(status=Status.RUNNING)
    points = tuple((name, n, 1.0, AT) for name in "ab" for n in range(4))
    lifecycle.report(task.id, News(points=points), attempt=1)
    url, seen = f"/api/tasks/{task.id}/metrics", []

    while url:
        answer = api.get(url).json()
        seen += [(one["name"], one["step"]) for one in answer["results"]]
        url = answer["next"]

    assert seen == [(name, n) for name in "ab" for n in range(4)]
    assert api.get(f"/api/tasks/{task.id}/metrics?cursor=x").status_code == 400


# ── Artifacts ───────────────────────────────────────────────────────────────────────────

CONTENT = bytes(range(256)) * 3


@pytest.fixture
def artifact(make_task, settings):
    """A completed task with one listed file, and others that are not to be had."""
    sha = hashlib.sha256(CONTENT).hexdigest()
    listed = [
        {"path": path, "bytes": len(CONTENT), "sha256": sha}
        for path in ("sub/mödel 1.bin", "link", "gone.bin")
    ]
    task = make_task(status=Status.COMPLETED, result={"artifacts": listed})
    folder = archive.folder(task)
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/mödel 1.bin").write_bytes(CONTENT)
    (folder / "unlisted.bin").write_bytes(b"unlisted")
    (settings.ARTIFACTS_DIR / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(settings.ARTIFACTS_DIR / "secret")
    return task


def url_of(task, path="sub/m%C3%B6del%201.bin"):
    return f"/api/tasks/{task.id}/artifacts/{path}"


def test_artifacts_are_listed_as_the_result_has_them(api, artifact, make_task):
    answer = api.get(f"/api/tasks/{artifact.id}/artifacts").json()

    assert answer == {"results": artifact.result["artifacts"], "next": None}
    pending = make_task()
    assert api.get(f"/api/tasks/{pending.id}/artifacts").json()["results"] == []


def test_a_download_is_whole_and_never_shown_in_the_page(api, artifact):
    response = api.get(url_of(artifact), HTTP_ACCEPT="text/html")

    assert response.status_code == 200
    assert body_of(response) == CONTENT
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Content-Disposition"] == "attachment; filename*=UTF-8''m%C3%B6del%201.bin"
    assert response["Content-Type"] == "application/octet-stream"
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=0-9", range(10)),
        ("bytes=700-", range(700, 768)),
        ("bytes=700-99999", range(700, 768)),
        ("bytes=-5", range(763, 768)),
        ("bytes=-9999", range(768)),
        ("bytes=767-767", range(767, 768)),
    ],
)
def test_a_range_is_that_part_of_it(api, artifact, asked, part):
    response = api.get(url_of(artifact), HTTP_RANGE=asked)

    assert response.status_code == 206
    assert body_of(response) == CONTENT[part.start : part.stop]
    assert response["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/768"
    assert response["Content-Length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=768-", "bytes=9999-10000", "bytes=-0"])
def test_a_range_behind_the_end_is_416(api, artifact, asked):
    response = api.get(url_of(artifact), HTTP_RANGE=asked)

    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */768"


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=" + "9" * 40 + "-"],
)
def test_a_range_that_is_none_is_the_whole_file(api, artifact, asked):
    response = api.get(url_of(artifact), HTTP_RANGE=asked)

    assert response.status_code == 200
    assert body_of(response) == CONTENT


def test_a_range_of_what_has_changed_is_the_whole_file(api, artifact):
    etag = api.get(url_of(artifact))["ETag"]

    same = api.get(url_of(artifact), HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE=etag)
    other = api.get(url_of(artifact), HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE='"other"')

    assert (same.status_code, other.status_code) == (206, 200)
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        assert api.get(url_of(artifact), HTTP_IF_NONE_MATCH=known).status_code == 304
    assert api.get(url_of(artifact), HTTP_IF_NONE_MATCH='"other"').status_code == 200


def test_head_tells_the_size_and_sends_nothing(api, artifact):
    response = api.head(url_of(artifact))

    assert (response.status_code, response["Content-Length"]) == (200, "768")
    assert body_of(response) == b""


@pytest.mark.parametrize(
    "path",
    [
        "unlisted.bin",
        "gone.bin",
        "link",
        "../1/unlisted.bin",
        "..%2F..%2Fsecret",
        "%2e%2e/%2e%2e/secret",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "sub",
        "sub/../sub/m%C3%B6del%201.bin",
        "a%00b",
        "x" * 5_000,
    ],
)
def test_nothing_but_listed_files_can_be_had(api, artifact, path):
    response = api.get(url_of(artifact, path))

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_with_nginx_before_it_a_file_is_handed_over(api, artifact, settings):
    settings.ACCEL_PREFIX = "/artifacts-of-tasks/"

    response = api.get(url_of(artifact))

    inside = f"{artifact.id}/1/sub/m%C3%B6del%201.bin"
    assert response["X-Accel-Redirect"] == f"/artifacts-of-tasks/{inside}"
    assert response["Content-Disposition"].startswith("attachment")
    assert response.content == b""
    assert api.get(url_of(artifact, "link")).status_code == 404

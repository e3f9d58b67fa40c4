"""`manage.py maintain`: what goes by age, count and size, and what never does."""

import os
import time
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.factories import events_of, make_dataset, make_worker, start
from training import archive, audit, backups, lifecycle, retention
from training.errors import StoreAway
from training.models import IdempotencyKey, TaskEvent, TrainingTask, Worker
from training.states import Status

DAY = 86_400


@pytest.fixture(autouse=True)
def keep_all(settings):
    settings.KEEP_TASKS_DAYS = settings.KEEP_TASKS = settings.KEEP_PROGRESS_DAYS = 0
    settings.KEEP_ARTIFACTS_DAYS = settings.KEEP_ARTIFACTS_BYTES = 0


@pytest.fixture
def ended(make_task, settings):
    """`ended(days=3)`: a completed task with 1,000 bytes of files, that ended so long ago."""

    def make(*, days, **fields):
        task = make_task(status=fields.pop("status", Status.COMPLETED), **fields)
        at = timezone.now() - timedelta(days=days)
        if task.is_final:
            TrainingTask.objects.filter(pk=task.pk).update(completed_at=at)
        folder(settings.ARTIFACTS_DIR / task.id / "1", size=1_000, days=days)
        return task

    return make


def folder(place, *, size=10, days=2):
    place.mkdir(parents=True)
    (place / "file").write_bytes(b"x" * size)
    at = time.time() - days * DAY
    for path in (place, place.parent):
        os.utime(path, (at, at))
    return place


def maintain():
    """Do it; what went, by kind."""
    call_command("maintain", "--apply")


def left(settings):
    rows = set(TrainingTask.objects.values_list("pk", flat=True))
    files = {path.name for path in settings.ARTIFACTS_DIR.iterdir()}
    return rows, files


def test_nothing_goes_by_itself(ended, settings, capsys):
    ended(days=4_000)

    call_command("maintain", "--apply")

    assert capsys.readouterr().out == "0 removed, 0.0 MB\n"
    assert [len(part) for part in left(settings)] == [1, 1]


def test_a_dry_run_tells_what_would_go_and_changes_nothing(ended, settings, capsys):
    settings.KEEP_TASKS_DAYS = 30
    old = ended(days=31)

    call_command("maintain")

    assert f"task      {old.id}  0.0 MB\n1 would go" in capsys.readouterr().out
    assert left(settings) == ({old.id}, {old.id})


@pytest.mark.parametrize("rule", ["age", "count"])
def test_old_tasks_go_with_their_files_the_pinned_and_running_stay(ended, settings, rule):
    settings.KEEP_TASKS_DAYS, settings.KEEP_TASKS = (30, 0) if rule == "age" else (0, 1)
    old, young = ended(days=31), ended(days=29)
    pinned = ended(days=40)
    lifecycle.pin(pinned.id, pinned=True)
    running = ended(days=50, status=Status.RUNNING)

    maintain()

    stay = {young.id, pinned.id, running.id}
    assert left(settings) == (stay, stay)
    assert events_of(old) == []


def test_a_task_without_files_is_counted_too(make_task, settings, capsys):
    settings.KEEP_TASKS = 1
    make_task(status=Status.CANCELLED)
    make_task(status=Status.CANCELLED)

    maintain()

    assert "1 removed" in capsys.readouterr().out


def test_what_cannot_be_removed_is_told_and_the_rest_goes(ended, settings, capsys, monkeypatch):
    settings.KEEP_ARTIFACTS_DAYS = 30
    stuck, other = ended(days=32), ended(days=31)
    remove = archive.remove

    def away(task_id):
        if task_id == stuck.id:
            raise StoreAway("the store did not answer")
        return remove(task_id)

    monkeypatch.setattr(archive, "remove", away)

    with pytest.raises(CommandError, match="1 could not be removed"):
        maintain()

    told = capsys.readouterr()
    assert f"{stuck.id}  could not be removed: the store did not answer" in told.err
    assert f"{other.id}  0.0 MB\n1 removed" in told.out


def test_a_plan_that_cannot_be_made_removes_nothing_and_says_why(monkeypatch):
    def away():
        raise StoreAway("the store can't be listed")

    monkeypatch.setattr(retention, "_with_files", away)

    with pytest.raises(CommandError, match="nothing was removed: the store can't be listed"):
        maintain()


def test_files_go_by_age_and_the_task_keeps_its_metrics(ended, settings, api):
    settings.KEEP_ARTIFACTS_DAYS = 30
    old, young = ended(days=31), ended(days=1)

    maintain()

    assert left(settings) == ({old.id, young.id}, {young.id})
    assert api.get(f"/api/tasks/{old.id}").json()["result"]["metrics"]
    assert api.get(f"/api/tasks/{old.id}/log").status_code in {200, 404}


@pytest.mark.parametrize("setting", ["KEEP_ARTIFACTS_DAYS", "KEEP_ARTIFACTS_BYTES"])
def test_files_that_went_are_missed_nowhere_whatever_the_settings_are_there(
    ended, settings, setting
):
    listed = [{"path": "file", "bytes": 1_000, "sha256": "0" * 64}]
    old = ended(days=31, result={"metrics": {"ic": 0.1}, "artifacts": listed})
    setattr(settings, setting, 1)

    maintain()
    setattr(settings, setting, 0)

    old.refresh_from_db()
    assert old.result == {"metrics": {"ic": 0.1}, "artifacts": []}
    assert audit.run().violations == []
    assert list(backups.faults_here()) == []


def test_files_go_by_size_oldest_first_until_the_rest_fits(ended, settings):
    settings.KEEP_ARTIFACTS_BYTES = 2_500
    pinned = ended(days=9)
    lifecycle.pin(pinned.id, pinned=True)
    ended(days=8)
    ended(days=7)
    newest = ended(days=6)

    maintain()

    assert left(settings)[1] == {pinned.id, newest.id}


def test_the_many_events_go_and_the_story_stays(ended, settings):
    settings.KEEP_PROGRESS_DAYS = 30
    task = ended(days=31)
    recent = ended(days=1)
    for one in (task, recent):
        TaskEvent.objects.filter(task=one, kind="started").update(kind="progress")

    maintain()

    assert events_of(task) == ["created", "completed"]
    assert events_of(recent) == ["created", "progress", "completed"]


def test_versions_that_nobody_refers_to_go(make_task, settings):
    make_dataset(version="a" * 16)
    make_task(dataset_version="b" * 16)
    root = settings.DATASETS_DIR / "demo"
    for name in ("a" * 16, "b" * 16, "c" * 16, ".partial-9", "notes"):
        folder(root / name)
    folder(root / ("d" * 16), days=0)

    maintain()

    kept = {"a" * 16, "b" * 16, "d" * 16, ".partial-9", "notes"}
    assert {path.name for path in root.iterdir()} == kept


def test_leftovers_of_killed_leaders_and_deletions_go(make_task, settings):
    task = start(make_task())
    for name in (f"{task.id}-1", f"{task.id}-0", "task-x-1"):
        folder(settings.SCRATCH_DIR / name)
    folder(settings.ARTIFACTS_DIR / "task-gone" / "1")
    for path in (settings.ARTIFACTS_DIR / task.id, settings.SCRATCH_DIR / "task-new-1"):
        folder(path, days=0)

    maintain()

    assert {one.name for one in settings.SCRATCH_DIR.iterdir()} == {f"{task.id}-1", "task-new-1"}
    assert {one.name for one in settings.ARTIFACTS_DIR.iterdir()} == {task.id}


def test_rows_that_mean_nothing_any_more_go(make_task, owner):
    yesterday = timezone.now() - timedelta(days=2)
    Session.objects.create(session_key="old", session_data="x", expire_date=yesterday)
    Session.objects.create(
        session_key="new", session_data="x", expire_date=timezone.now() + timedelta(days=1)
    )
    key = IdempotencyKey.objects.create(owner=owner, key="k", request_hash="h", task=make_task())
    IdempotencyKey.objects.filter(pk=key.pk).update(created_at=yesterday)
    make_worker("gone")
    Worker.objects.update(seen_at=yesterday)
    make_worker("here")

    maintain()

    assert list(Session.objects.values_list("session_key", flat=True)) == ["new"]
    assert not IdempotencyKey.objects.exists()
    assert list(Worker.objects.values_list("name", flat=True)) == ["here"]


def test_a_task_that_is_pinned_after_the_plan_stays(ended, settings):
    settings.KEEP_TASKS_DAYS = settings.KEEP_ARTIFACTS_DAYS = 30
    first = ended(days=31)
    planned = list(retention.plan())
    lifecycle.pin(first.id, pinned=True)

    assert [removal.do() for removal in planned] == [False]
    assert left(settings) == ({first.id}, {first.id})


def test_more_rows_than_one_statement_takes_are_deleted(ended, settings, monkeypatch):
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    settings.KEEP_PROGRESS_DAYS = 30
    task = ended(days=31)
    TaskEvent.objects.bulk_create(
        TaskEvent(
            task=task, seq=seq, attempt=1, kind="log", status="running", stage="fit", progress=1.0
        )
        for seq in range(10, 17)
    )

    maintain()

    assert events_of(task) == ["created", "started", "completed"]

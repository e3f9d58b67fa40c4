"""The audit: silent on what the lifecycle makes, and loud about each promise that is broken."""

import shutil
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests import factories
from training import archive, audit, lifecycle
from training.models import LogChunk, TaskEvent, TaskTag, TrainingTask
from training.states import RequeueReason, Stage, Status

pytestmark = pytest.mark.django_db


def rules_broken(**options) -> list[str]:
    return [violation.rule for violation in audit.run(**options).violations]


def tamper(task: TrainingTask, **columns) -> None:
    """Write columns past the lifecycle, as nothing in the platform does."""
    TrainingTask.objects.filter(pk=task.pk).update(**columns)


@pytest.fixture
def completed(make_task, tmp_path) -> TrainingTask:
    """A completed task with one artifact, log and curves, and a loss behind it."""
    task = make_task(status=Status.RUNNING, tags=["a", "b"])
    lifecycle.report(task.id, lifecycle.News(progress=40.0, log="one\n"), attempt=1)
    lifecycle.requeue(task.id, attempt=1, reason=RequeueReason.HOST_LOST)
    task = factories.start(task)
    news = lifecycle.News(progress=20.0, stages=((Stage.FIT, "fit"),), log="two\n")
    lifecycle.report(task.id, news, attempt=2)
    scratch = tmp_path / "scratch-of-one"
    (scratch / "home" / "artifacts").mkdir(parents=True)
    (scratch / "home" / "artifacts" / "pred.bin").write_bytes(b"12345")
    (scratch / "log.txt").write_text("two\n")
    kept = archive.keep(task, scratch, final=None, kind="completed", points=[])
    result = {"metrics": factories.METRICS, "artifacts": kept}
    return lifecycle.complete(task.id, attempt=2, result=result)


def test_what_the_lifecycle_makes_of_a_task_is_without_violation(make_task, completed):
    for status in (Status.PENDING, Status.RUNNING, Status.FAILED, Status.CANCELLED):
        make_task(status=status)

    report = audit.run()

    assert (report.tasks, report.violations) == (5, [])


def test_tasks_beyond_one_slice_are_looked_at_too(make_task, monkeypatch):
    monkeypatch.setattr(audit, "SLICE", 2)
    tasks = [make_task() for _ in range(5)]
    tamper(tasks[-1], last_seq=7)

    report = audit.run()

    assert report.tasks == 5
    assert {violation.task_id for violation in report.violations} == {tasks[-1].id}


COLUMNS = [
    ("numbers", Status.RUNNING, {"last_seq": 9}),
    ("state", Status.RUNNING, {"stage": Stage.FIT}),
    ("state", Status.RUNNING, {"message": "told to nobody"}),
    ("state", Status.PENDING, {"status": Status.RUNNING, "lease_until": timezone.now()}),
    ("columns", Status.PENDING, {"lease_until": timezone.now()}),
    ("columns", Status.RUNNING, {"progress": 100.0}),
    ("columns", Status.RUNNING, {"started_at": None}),
    ("columns", Status.RUNNING, {"worker": ""}),
    ("errors", Status.FAILED, {"error": ""}),
    ("errors", Status.COMPLETED, {"error_code": "late"}),
    ("attempts", Status.RUNNING, {"attempt": 2}),
    ("attempts", Status.RUNNING, {"losses": 1}),
    ("attempts", Status.RUNNING, {"max_attempts": 0}),
    ("tags", Status.PENDING, {"tags": ["other"]}),
    ("headlines", Status.COMPLETED, {"ic": 0.5}),
    ("lease", Status.RUNNING, {"lease_until": timezone.now() - timedelta(hours=1)}),
]


@pytest.mark.parametrize(
    ("rule", "status", "columns"), COLUMNS, ids=[f"{one[0]}-{'-'.join(one[2])}" for one in COLUMNS]
)
def test_a_column_that_was_changed_without_its_event_is_found(make_task, rule, status, columns):
    task = make_task(status=status, tags=["a"])
    assert rules_broken() == []

    tamper(task, **columns)

    assert rule in rules_broken()


def test_a_missing_a_doubled_and_a_false_end_are_found(make_task):
    lost, doubled, false = (make_task(status=Status.COMPLETED) for _ in range(3))
    TaskEvent.objects.filter(task=lost, kind="completed").delete()
    TaskEvent.objects.filter(task=doubled, kind="started").update(kind="created")
    TaskEvent.objects.filter(task=false, kind="completed").update(kind="failed")

    found = {(one.task_id, one.rule) for one in audit.run().violations}

    assert {(lost.id, "ends"), (false.id, "ends"), (doubled.id, "attempts")} <= found


def test_progress_that_fell_is_found(make_task):
    task = make_task(status=Status.RUNNING)
    for percent in (10.0, 20.0):
        lifecycle.report(task.id, lifecycle.News(progress=percent), attempt=1)
    TaskEvent.objects.filter(task=task, progress=10.0).update(progress=30.0)

    assert rules_broken() == ["progress"]


@pytest.mark.parametrize(("days", "broken"), [(2, []), (0, ["numbers"])])
def test_what_retention_removed_of_past_tasks_is_no_violation(make_task, days, broken):
    task = make_task(status=Status.RUNNING)
    lifecycle.report(task.id, lifecycle.News(progress=10.0), attempt=1)
    lifecycle.fail(task.id, attempt=1, code="x", error="y")
    tamper(task, completed_at=timezone.now() - timedelta(days=days))

    TaskEvent.objects.filter(task=task, kind="progress").delete()

    assert rules_broken() == broken


def test_files_that_retention_may_remove_are_missed_only_if_pinned(completed, settings):
    settings.KEEP_ARTIFACTS_DAYS = 30
    shutil.rmtree(archive.folder(completed).parent)

    unpinned = rules_broken()
    lifecycle.pin(completed.id, pinned=True)

    assert (unpinned, rules_broken()) == ([], ["artifacts"])


def test_a_hole_in_the_log_is_found(make_task):
    task = make_task(status=Status.RUNNING)
    for offset, text in ((0, "one\n"), (4, "two\n"), (8, "three\n")):
        news = lifecycle.News(log=text, log_offset=offset)
        lifecycle.report(task.id, news, attempt=1)
    LogChunk.objects.filter(offset=4).delete()

    assert rules_broken() == ["log"]


def test_a_tag_row_too_many_is_found(make_task):
    TaskTag.objects.create(task=make_task(), name="nobody asked")

    assert rules_broken() == ["tags"]


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing", "unknown"])
def test_a_damaged_artifact_is_found(completed, damage):
    folder = archive.folder(completed)
    if damage == "changed":
        (folder / "pred.bin").write_bytes(b"54321")
    elif damage == "shorter":
        (folder / "pred.bin").write_bytes(b"1")
    elif damage == "missing":
        (folder / "pred.bin").unlink()
    else:
        (folder / "more.bin").write_bytes(b"")

    assert rules_broken() == ["artifacts"]
    assert rules_broken(hashes=False) == ([] if damage == "changed" else ["artifacts"])


def test_a_lease_that_is_just_over_is_given_time(make_task):
    task = make_task(status=Status.RUNNING)
    tamper(task, lease_until=timezone.now() - timedelta(seconds=5))

    assert rules_broken() == []
    assert rules_broken(grace=timedelta(seconds=1)) == ["lease"]


def test_the_command_says_each_violation_and_ends_with_1(make_task):
    task = make_task(status=Status.RUNNING)
    tamper(task, last_seq=9)
    told = StringIO()

    with pytest.raises(CommandError, match="1 violations in 1 tasks") as raised:
        call_command("audit", stdout=told)

    assert raised.value.returncode == 1
    assert told.getvalue().startswith(f"{task.id}: numbers: 2 events from 1 to 2")


def test_the_command_is_content_with_a_sound_database(completed):
    told = StringIO()

    call_command("audit", "--no-hashes", "--grace", "0", stdout=told)

    assert told.getvalue() == "1 tasks: every invariant holds\n"

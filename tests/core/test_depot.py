"""Artifacts in a far store: put by a worker, fetched by another host, removed with their task."""

from datetime import date, timedelta

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.utils import timezone

from tests.factories import METRICS
from training import archive, attempt_log, audit, backups, depot, lifecycle, services
from training.errors import StoreAway
from training.models import TrainingTask
from training.states import Status

pytestmark = pytest.mark.django_db


class Broken(FileSystemStorage):
    """A store whose network is down."""

    def listdir(self, path):
        raise RuntimeError("no route to host")

    def _save(self, name, content):
        raise RuntimeError("no route to host")


@pytest.fixture(autouse=True)
def far(settings, tmp_path):
    """A folder stands for the far store."""
    place = tmp_path / "far"
    use(settings, "django.core.files.storage.FileSystemStorage", place)
    settings.ARTIFACTS_DIR = tmp_path / "here"
    settings.SCRATCH_DIR = tmp_path / "scratch"
    return place


def use(settings, backend, place):
    options = {"location": str(place)}
    settings.STORAGES = {
        **settings.STORAGES,
        "artifacts": {"BACKEND": backend, "OPTIONS": options},
    }


def keep(task, tmp_path, *, kind="failed"):
    """What a leader keeps of its attempt."""
    scratch = tmp_path / f"{task.id}-{task.attempt}"
    (scratch / archive.HOME).mkdir(parents=True)
    (scratch / archive.LOG).write_text("a line\n")
    return archive.keep(task, scratch, final=None, kind=kind, points=[])


def fail(task):
    lifecycle.fail(task.id, attempt=task.attempt, code="training_error", error="it failed")
    task.refresh_from_db()


def other_host(settings, tmp_path, name="elsewhere"):
    settings.ARTIFACTS_DIR = tmp_path / name


def files(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_another_host_reads_what_a_worker_has_kept(make_task, settings, tmp_path, far):
    task = make_task(status=Status.RUNNING)
    keep(task, tmp_path)
    fail(task)

    other_host(settings, tmp_path)
    text = attempt_log.part_of(task, 1, offset=0).text

    assert files(far) == [f"{task.id}/1/curves.json", f"{task.id}/1/log.txt"]
    assert text == b"a line\n"
    assert files(tmp_path / "elsewhere") == files(far)


def test_the_audit_does_not_miss_what_retention_has_removed_there(make_task, settings):
    settings.KEEP_ARTIFACTS_DAYS = 30
    listed = [{"path": "model", "bytes": 7, "sha256": "0" * 64}]
    make_task(status=Status.COMPLETED, result={"metrics": {}, "artifacts": listed})

    assert audit.run().violations == []
    assert list(backups.faults_here()) == []


def test_what_is_not_whole_yet_is_not_fetched(make_task, settings, tmp_path, far):
    task = make_task(status=Status.FAILED)
    (far / task.id / "1").mkdir(parents=True)
    (far / task.id / "1/log.txt").write_text("half")

    assert not archive.folder(task, 1).exists()


def test_a_store_that_takes_nothing_ends_the_task_clearly_and_leaves_nothing(
    make_task, settings, tmp_path, far
):
    use(settings, f"{__name__}.Broken", far)
    task = make_task(status=Status.RUNNING)

    with pytest.raises(archive.NotKept, match="no route to host") as raised:
        keep(task, tmp_path)

    assert raised.value.code == "not_kept"
    assert not archive.holds(task)


def test_a_store_that_is_away_is_told_as_such(make_task, settings, tmp_path, far, api):
    use(settings, f"{__name__}.Broken", far)
    task = make_task(status=Status.FAILED)

    with pytest.raises(StoreAway, match="no route to host"):
        archive.folder(task, 1)
    assert api.get(f"/api/tasks/{task.id}/log?attempt=1").status_code == 503


def test_pages_say_that_a_store_is_away_and_show_the_rest(client, owner, make_task, settings, far):
    use(settings, f"{__name__}.Broken", far)
    failed = make_task(status=Status.FAILED)
    period = {"test_from": date(2018, 1, 1), "test_to": date(2018, 12, 31)}
    completed = make_task(status=Status.COMPLETED, result={"metrics": METRICS}, **period)
    client.force_login(owner)

    for task in (failed, completed):
        answer = client.get(f"/tasks/{task.id}")
        assert answer.status_code == 200
        assert "out of reach: the store of artifacts did not give" in answer.content.decode()
    board = client.get("/leaderboard")

    assert board.status_code == 200
    assert completed.id in board.content.decode()


def test_files_go_with_their_task_wherever_they_are(make_task, settings, tmp_path, far, owner):
    task = make_task(status=Status.RUNNING)
    keep(task, tmp_path)
    fail(task)
    other_host(settings, tmp_path)

    services.delete(task.id, user=owner)

    assert files(far) == []


def test_cleaning_removes_far_files_and_counts_them(make_task, settings, tmp_path, far, capsys):
    task = make_task(status=Status.RUNNING)
    keep(task, tmp_path)
    long_ago = timezone.now() - timedelta(days=40)
    fail(task)
    TrainingTask.objects.filter(pk=task.pk).update(completed_at=long_ago)
    other_host(settings, tmp_path)
    settings.KEEP_ARTIFACTS_DAYS = 30

    call_command("maintain", "--apply")

    assert f"artifacts {task.id}" in capsys.readouterr().out
    assert files(far) == []


def test_a_backup_leaves_the_far_store_to_itself(settings, tmp_path):
    assert set(backups._roots()) == {"datasets"}


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"\.\."):
        depot._inside(tmp_path, "../secret")

"""`manage.py doctor`: every illness is found, with its cure and the exit code."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from tests.factories import make_dataset, make_worker, start
from training import backups
from training.management.commands import doctor
from training.models import Dataset, Export, TrainingTask, Worker
from training.states import Status
from training.work import queue

ROOT = Path(__file__).resolve().parent.parent
REDIS = {"redis_version": "7.0.15", "maxmemory_policy": "noeviction", "aof_enabled": 1}


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def healthy(db, settings, monkeypatch):
    dataset = make_dataset()
    place = settings.DATASETS_DIR / dataset.name / dataset.version
    told = dataset.manifest
    for code in (*told["instruments"], *told["benchmarks"]):
        for name in told["fields"]:
            write(place / "features" / code.lower() / f"{name}.day.bin")
    write(place / "manifest.json")
    write(place / "calendars/day.txt")
    settings.RUNTIME_DIR = settings.STATE_DIR
    settings.ALLOWED_HOSTS = ["localhost"]
    make_worker()
    monkeypatch.setattr(queue, "facts", lambda: REDIS)


@pytest.fixture
def see(capsys):
    """What the doctor says, and the exit code."""

    def look(**options):
        try:
            call_command("doctor", **options)
        except SystemExit as end:
            return capsys.readouterr().out, end.code
        return capsys.readouterr().out, 0

    return look


def test_a_healthy_platform_has_nothing_to_cure(healthy, see):
    told, code = see()

    assert code == 0
    assert "cure" not in told
    assert {"settings", "database", "redis", "folders", "datasets", "workers", "leases"} <= set(
        told.split()
    )


def break_redis(settings, monkeypatch):
    monkeypatch.setattr(queue, "facts", lambda: None)


def break_database(settings, monkeypatch):
    def down():
        raise OperationalError("connection refused")

    monkeypatch.setattr(doctor, "_database_now", down)


def break_folder(settings, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)


def break_dataset(settings, monkeypatch):
    shutil.rmtree(settings.DATASETS_DIR / "demo" / "v1")


def break_column(settings, monkeypatch):
    (settings.DATASETS_DIR / "demo/v1/features/aaa/open.day.bin").unlink()


def break_environment(settings, monkeypatch):
    place = settings.STATE_DIR / "environment"
    place.touch(mode=0o644)
    monkeypatch.setattr(doctor, "ENVIRONMENT", place)


def break_downloads(settings, monkeypatch):
    settings.ACCEL_PREFIX = "/artifacts-of-tasks/"
    settings.STATE_DIR.chmod(0o710)
    settings.ARTIFACTS_DIR.mkdir(mode=0o700)


def fill_disk(settings, monkeypatch):
    full = SimpleNamespace(total=10**12, free=10**6)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: full)


def break_worker(settings, monkeypatch):
    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=5))


def break_key(settings, monkeypatch):
    (settings.STATE_DIR / "secret.key").write_text("x")


def break_lease(settings, monkeypatch):
    TrainingTask.objects.update(lease_until=timezone.now() - timedelta(minutes=5))


@pytest.mark.parametrize(
    ("illness", "cure"),
    [
        (break_redis, "PLATFORM_REDIS_URL"),
        (break_database, "PLATFORM_DATABASE_URL"),
        (break_folder, "PLATFORM_STATE_DIR"),
        (break_dataset, "import it again"),
        (break_column, "1 of its files are missing"),
        (break_environment, "chmod 600"),
        (break_downloads, "chmod g+x"),
        (fill_disk, "give it more space"),
        (break_worker, "manage.py worker cpu"),
        (break_key, "chmod 600"),
        (break_lease, "manage.py reconcile"),
    ],
)
def test_what_stops_the_platform_is_a_failure_with_its_cure(
    healthy, see, make_task, settings, monkeypatch, illness, cure
):
    start(make_task())
    illness(settings, monkeypatch)

    told, code = see()

    assert code == 1
    assert "FAIL" in told
    assert cure in told


def test_a_database_that_is_away_is_told_once(healthy, see, monkeypatch):
    def down():
        raise OperationalError("connection refused")

    monkeypatch.setattr(doctor, "LOOKS", (down,) * 4)

    told, code = see()

    assert (code, told.count("connection refused")) == (1, 1)


def test_tables_of_a_newer_release_are_a_warning(healthy, see):
    MigrationRecorder(connection).record_applied("training", "9999_newer")

    told, code = see()

    assert code == 0
    assert "training.9999_newer is not known here" in told


def test_a_key_that_can_be_guessed_is_a_warning(healthy, see, settings):
    settings.SECRET_KEY = "x" * 20

    told, _ = see()

    assert "has 20 characters" in told


@pytest.mark.parametrize(("waiting", "is_told"), [(0, True), (1, False)])
def test_a_task_that_waits_without_a_ring_is_a_warning(
    healthy, see, make_task, monkeypatch, waiting, is_told
):
    task = make_task()
    TrainingTask.objects.filter(pk=task.pk).update(created_at=timezone.now() - timedelta(minutes=2))
    monkeypatch.setattr(queue, "overview", lambda: [{"name": "cpu", "waiting": waiting}])

    told, code = see()

    assert code == 0
    assert ("nobody rings for them" in told) == is_told


def test_a_setting_that_cannot_be_read_is_told_in_one_sentence():
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor"],
        cwd=ROOT,
        env={**os.environ, "PLATFORM_LEASE_S": "abc"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "PLATFORM_LEASE_S" in done.stderr


def test_a_clock_that_is_wrong_is_noticed_also_without_a_dataset(healthy, see, monkeypatch):
    Dataset.objects.all().delete()
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(doctor.timezone, "now", lambda: later)

    told, _ = see()

    assert "clock and this machine's are 3600 s apart" in told


def test_a_worker_that_drains_serves_no_task_that_waits(healthy, see, make_task):
    make_worker("gpu-1", queue="gpu")
    Worker.objects.filter(name="gpu-1").update(draining=True)
    make_task(queue="gpu", needs="")

    told, code = see()

    assert code == 0
    assert "start a worker for queue gpu" in told


def test_a_folder_of_features_that_cannot_be_written_fails(healthy, see, settings, monkeypatch):
    settings.FEATURES_DIR.mkdir()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != settings.FEATURES_DIR)

    told, code = see()

    assert code == 1
    assert "PLATFORM_FEATURES_DIR" in told


def far(settings, backend):
    options = {"location": str(settings.STATE_DIR / "far")}
    artifacts = {"BACKEND": backend, "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}


@pytest.mark.parametrize("backend", ["tests.core.test_depot.Broken", "no.such.Storage"])
def test_a_far_store_that_does_not_answer_fails(healthy, see, settings, backend):
    far(settings, backend)

    told, code = see()

    assert code == 1
    assert "PLATFORM_ARTIFACTS_S3" in told


def test_a_far_store_that_answers_is_well(healthy, see, settings):
    far(settings, "django.core.files.storage.FileSystemStorage")

    told, code = see()

    assert (code, "cure" in told) == (0, False)
    assert "far store" in told


def test_results_that_do_not_come_to_mlflow_are_a_warning(healthy, see, settings, make_task):
    settings.MLFLOW_TRACKING_URI = "http://mlflow.example.org"
    late = make_task(status=Status.COMPLETED)
    make_task(status=Status.COMPLETED)
    TrainingTask.objects.filter(pk=late.pk).update(completed_at=timezone.now() - timedelta(hours=2))

    missing, _ = see()
    Export.objects.create(task=late, sent_at=timezone.now())
    sent, _ = see()

    assert "1 results have not come to MLflow" in missing
    assert "systemctl start qlib-export" in missing
    assert "MLflow has all results" in sent


def test_a_backup_that_is_old_or_missing_is_a_warning(healthy, see, tmp_path):
    def backup(days):
        at = timezone.now() - timedelta(days=days)
        place = tmp_path / "backups" / at.strftime(backups.NAME)
        place.mkdir(parents=True)
        (place / backups.MANIFEST).touch()

    none, _ = see(backups=tmp_path / "backups")
    backup(days=3)
    old, _ = see(backups=tmp_path / "backups")
    backup(days=1)
    new, code = see(backups=tmp_path / "backups")

    assert "none of the last two days" in none
    assert "none of the last two days" in old
    assert (code, "cure" in new) == (0, False)


def test_what_only_worries_is_a_warning(healthy, see, make_task, settings, monkeypatch):
    careless = {**REDIS, "maxmemory_policy": "allkeys-lru", "aof_enabled": 0}
    monkeypatch.setattr(queue, "facts", lambda: careless)
    settings.ALLOWED_HOSTS = ["qlib.example.org"]
    settings.RELEASE = "new"
    make_task(queue="torch", needs="torch")

    told, code = see()

    assert code == 0
    for part in ("noeviction", "appendonly yes", "PLATFORM_HTTPS", "release", "with torch"):
        assert part in told

"""`manage.py doctor`: every illness is found, with its cure and the exit code."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from tests.factories import make_dataset, make_worker, start
from training.management.commands import doctor
from training.models import TrainingTask, Worker
from training.work import queue

REDIS = {"redis_version": "7.0.15", "maxmemory_policy": "noeviction", "aof_enabled": 1}


@pytest.fixture
def healthy(db, settings, monkeypatch):
    dataset = make_dataset()
    (settings.DATASETS_DIR / dataset.name / dataset.version).mkdir(parents=True)
    settings.RUNTIME_DIR = settings.STATE_DIR
    settings.ALLOWED_HOSTS = ["localhost"]
    make_worker()
    monkeypatch.setattr(queue, "facts", lambda: REDIS)


@pytest.fixture
def see(capsys):
    """What the doctor says, and the exit code."""

    def look():
        try:
            call_command("doctor")
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
    (settings.DATASETS_DIR / "demo" / "v1").rmdir()


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

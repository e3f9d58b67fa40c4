"""Alive and ready, datasets and queues."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from tests.factories import make_worker, start
from training.api import health
from training.models import TrainingTask, Worker
from training.work import queue


@pytest.fixture
def ready(db):
    make_worker()


def missing(response):
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "not_ready"
    return [field["path"] for field in response.json()["error"]["fields"]]


def test_ready_with_database_redis_and_a_worker(client_of, ready):
    response = client_of(None).get("/readyz")

    assert (response.status_code, response.json()) == (200, {"status": "ready"})


def test_what_is_missing_is_named(client_of, ready, monkeypatch):
    anyone = client_of(None)
    monkeypatch.setattr(queue, "ping", lambda: False)
    no_redis = missing(anyone.get("/readyz"))
    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
    no_worker_either = missing(anyone.get("/readyz"))
    monkeypatch.setattr(health, "_unapplied", lambda: 2)
    no_migrations = missing(anyone.get("/readyz"))

    assert no_redis == ["redis"]
    assert no_worker_either == ["worker", "redis"]
    assert no_migrations == ["migrations", "redis"]


def test_a_worker_that_drains_makes_nothing_ready(client_of, ready):
    Worker.objects.update(draining=True)

    assert missing(client_of(None).get("/readyz")) == ["worker"]


def test_a_database_that_is_down_is_told_not_fallen_over(client_of, ready, monkeypatch):
    def down():
        raise OperationalError("connection to 10.0.0.1 refused")

    monkeypatch.setattr(health, "_unapplied", down)
    response = client_of(None).get("/readyz")

    assert missing(response) == ["database"]
    assert b"10.0.0.1" not in response.content


@pytest.mark.parametrize(
    "caller",
    [
        {"REMOTE_ADDR": "10.1.2.3"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.2.3"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=10.1.2.3"},
    ],
)
def test_from_elsewhere_readiness_is_for_the_signed_in(client_of, stranger, ready, caller):
    assert client_of(None).get("/readyz", **caller).status_code == 401
    assert client_of(stranger).get("/readyz", **caller).status_code == 200
    assert client_of(None).get("/healthz", **caller).json() == {"status": "alive"}


def test_alive_asks_no_database(client_of, django_assert_num_queries):
    anyone = client_of(None)

    with django_assert_num_queries(0):
        assert anyone.get("/healthz").status_code == 200


def test_datasets_are_listed_with_their_health(api, dataset, settings):
    away = api.get("/api/datasets").json()["results"][0]
    (settings.DATASETS_DIR / "demo" / "v1").mkdir(parents=True)
    there = api.get("/api/datasets").json()["results"][0]

    assert (away["available"], there["available"]) == (False, True)
    assert there.items() >= {
        "name": "demo", "version": "v1", "synthetic": True, "instruments": 3,
        "first_day": "2010-01-04", "last_day": dataset.manifest["days"][-1],
    }.items()  # fmt: skip


def test_queues_tell_their_load_over_all_owners(api, make_task, stranger):
    make_worker("w1")
    make_worker("w2", queue="torch")
    Worker.objects.filter(name="w2").update(draining=True)
    old = make_task()
    TrainingTask.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=1))
    make_task(owner=stranger)
    start(make_task())

    cpu, torch, gpu = api.get("/api/queues").json()["results"]

    assert (cpu["name"], cpu["pending"], cpu["running"], cpu["workers"]) == ("cpu", 2, 1, 1)
    assert cpu["oldest_pending_s"] == pytest.approx(3_600, abs=60)
    assert torch == {
        "name": "torch",
        "pending": 0,
        "running": 0,
        "workers": 0,
        "oldest_pending_s": None,
    }
    assert gpu["name"] == "gpu"

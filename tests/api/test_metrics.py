"""`/metrics`: who may read it, and that its figures are the platform's."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tests.factories import make_worker, start
from training import crew, features
from training.models import TrainingTask, Worker
from training.states import Status
from training.work import queue


def figures(client):
    """Each sample by its name and the values of its labels, in the order of their names."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name.removeprefix("qlibplatform_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_tasks_queues_and_leases_are_counted(client_of, make_task):
    make_task(status=Status.COMPLETED)
    old = make_task()
    TrainingTask.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=1))
    late = start(make_task())
    TrainingTask.objects.filter(pk=late.pk).update(
        lease_until=timezone.now() - timedelta(seconds=90)
    )

    features.count(hits=3)

    told = figures(client_of(None))

    assert told["features", "hits"] == 3
    assert (told["tasks", "completed"], told["tasks", "failed"]) == (1, 0)
    assert (told["queue_tasks", "cpu", "pending"], told["queue_tasks", "cpu", "running"]) == (1, 1)
    assert told["queue_oldest_seconds", "cpu"] == pytest.approx(3_600, abs=60)
    assert told["queue_oldest_seconds", "gpu"] == 0
    assert told["leases_over",] == 1
    assert told["lease_over_seconds",] == pytest.approx(90, abs=30)


def test_a_worker_tells_its_memory_and_its_release(client_of, db):
    make_worker("w1")
    Worker.objects.update(used_bytes=123, versions={"platform": "abc123"}, draining=True)

    told = figures(client_of(None))

    assert told["worker_memory_bytes", "w1"] == 123
    assert told["worker_info", "host-1", "cpu", "abc123", "w1"] == 1
    assert told["worker_draining", "w1"] == 1
    assert told["worker_seen_seconds", "cpu", "w1"] == pytest.approx(0, abs=60)


def test_what_is_away_is_told_as_down_and_the_rest_still_comes(client_of, db, monkeypatch):
    def down():
        raise OperationalError("gone")

    everything = figures(client_of(None))
    monkeypatch.setattr(crew, "queues", down)
    monkeypatch.setattr(queue, "ping", lambda: False)
    told = figures(client_of(None))

    assert (everything["up", "database"], everything["up", "redis"]) == (1, 1)
    assert (told["up", "database"], told["up", "redis"]) == (0, 0)
    assert told["disk_free_bytes", "state"] > 0
    assert ("tasks", "completed") not in told


@pytest.mark.parametrize(
    "caller", [{"REMOTE_ADDR": "10.1.2.3"}, {"HTTP_X_FORWARDED_FOR": "10.1.2.3"}]
)
def test_from_elsewhere_it_is_for_the_signed_in(client_of, stranger, caller):
    assert client_of(None).get("/metrics", **caller).status_code == 401
    assert client_of(stranger).get("/metrics", **caller).status_code == 200
    assert client_of(None).get("/metrics").status_code == 200

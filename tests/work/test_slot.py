"""A worker's lasting name: one at a time, and alive while the last one's training goes on."""

import fcntl
import os
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tests.factories import WORKER, make_worker
from training.models import Worker
from training.work import worker


@pytest.fixture
def held(settings, tmp_path):
    """The lock of the slot, held as by a leader whose worker was killed."""
    settings.RUNTIME_DIR = tmp_path
    lock = os.open(tmp_path / f"worker-{WORKER}.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_a_worker_that_waits_for_its_predecessors_training_is_seen(db, held, monkeypatch):
    make_worker()
    Worker.objects.update(seen_at=Now() - timedelta(hours=1))
    seen = []

    def sleep(_):
        seen.append(Worker.objects.alive().exists())
        if len(seen) == 3:
            os.close(held)

    monkeypatch.setattr(worker.time, "sleep", sleep)
    # Else it would be cut, and with it the test's transaction.
    monkeypatch.setattr(worker.connection, "close", lambda: None)

    worker.take_slot(WORKER)

    assert seen == [True, True, True]

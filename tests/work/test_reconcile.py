"""The reconciler: when it must wait, and what must not keep it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from training.models import TrainingTask
from training.states import Status
from training.work import queue, reconcile

pytestmark = pytest.mark.django_db

Passes = Callable[..., list[str]]


@pytest.fixture
def passes(make_task, settings, monkeypatch: pytest.MonkeyPatch) -> Passes:
    """`passes((10, 0), …)`: per pass the seconds that it sleeps and oversleeps afterwards; the
    status of a task whose lease is over, after each of them."""
    task = make_task(status=Status.RUNNING)
    past = timezone.now() - timedelta(seconds=60)
    TrainingTask.objects.update(lease_until=past)
    # Closing it would lose the test's database.
    monkeypatch.setattr(reconcile.connection, "close", lambda: None)

    def run(*sleeps: tuple[float, float]) -> list[str]:
        now, seen, rest = [0.0], [], list(sleeps)

        def sleep(*_: Any) -> float:
            seen.append(TrainingTask.objects.get(pk=task.pk).status)
            slept, over = rest.pop(0)
            now[0] += slept + over
            return over

        monkeypatch.setattr(reconcile, "_clock", lambda: now[0])
        monkeypatch.setattr(reconcile, "_sleep", sleep)
        reconcile.run(stopped=lambda: not rest)
        return seen

    return run


def test_one_lease_passes_after_a_start_before_anything_is_expired(passes, settings):
    settings.LEASE = timedelta(seconds=15)

    assert passes((10, 0), (10, 0), (1, 0)) == ["running", "running", "pending"]


def test_a_reconciler_that_was_asleep_gives_leaders_a_lease_to_renew(passes, settings):
    settings.LEASE = timedelta(seconds=15)

    assert passes((10, 3_600), (10, 0), (10, 0), (1, 0)) == [*["running"] * 3, "pending"]


def test_a_database_that_lets_writes_wait_gives_leaders_a_lease_to_renew(
    passes, settings, monkeypatch
):
    settings.LEASE = timedelta(seconds=15)
    waits = [False, False, True, False, False, False]
    monkeypatch.setattr(reconcile, "_write_waits", lambda: waits.pop(0))

    statuses = passes((10, 0), (4, 0), (10, 0), (10, 0), (1, 0))

    assert statuses == [*["running"] * 4, "pending"]


def test_a_bell_that_does_not_ring_is_tried_once_in_a_pass(make_task, monkeypatch):
    for _ in range(3):
        make_task()
    tried: list[str] = []
    monkeypatch.setattr(queue, "rung", lambda name: 0)
    monkeypatch.setattr(queue, "ring", lambda name: bool(tried.append(name)))

    missing = reconcile.ring_again()

    assert (missing, tried) == (0, ["cpu"])

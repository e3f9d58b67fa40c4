"""What a work-horse does before its training starts."""

from typing import Any

import pytest
from django.db import OperationalError
from django.db.models.query import QuerySet

from training import datasets, ledger
from training.states import Status
from training.work import jobs

pytestmark = pytest.mark.django_db


def test_a_database_that_is_away_as_a_training_starts_costs_no_attempt(
    make_task, dataset, monkeypatch: pytest.MonkeyPatch
):
    task = make_task(status=Status.RUNNING, dataset_version="0123456789abcdef")
    datasets.directory(task.dataset, task.dataset_version).mkdir(parents=True)
    post = jobs.Post(worker="w", queue="cpu", extras=(), host=None, memory_bytes=1)
    outages, found = [OperationalError("gone"), OperationalError("gone")], QuerySet.get

    def get(*args: Any, **kwargs: Any) -> Any:
        if outages:
            raise outages.pop()
        return found(*args, **kwargs)

    monkeypatch.setattr(QuerySet, "get", get)
    monkeypatch.setattr(ledger, "RETRY_S", 0.0)
    # The test's database would go with the connection.
    monkeypatch.setattr(ledger, "forget_connection", lambda: None)

    job = jobs._job(task, at=post)

    assert (outages, job["dataset"]["instruments"]) == ([], 3)

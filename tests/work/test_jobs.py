"""What a work-horse does before its training starts."""

import json

import pytest

from training import datasets, tracing
from training.states import Status
from training.work import jobs, worker

pytestmark = pytest.mark.django_db


def test_a_training_is_told_of_its_own_version_of_the_data(make_task, dataset):
    task = make_task(status=Status.RUNNING, dataset_version="0123456789abcdef")
    days = {"first_day": "2019-01-02", "last_day": "2019-12-30"}
    older = {"region": "us", "fingerprint": "older", "instruments": {"AAA": {}}, **days}
    folder = datasets.directory(task.dataset, task.dataset_version)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(older))
    post = jobs.Post(worker="w", queue="cpu", extras=(), host=None, memory_bytes=1)

    told = jobs._job(task, at=post)["dataset"]

    assert (told["fingerprint"], told["instruments"]) == ("older", 1)
    assert (told["first_day"], told["last_day"]) == tuple(days.values())


def test_a_version_that_is_not_on_this_worker_is_named(make_task, dataset):
    task = make_task(status=Status.RUNNING, dataset_version="0123456789abcdef")
    post = jobs.Post(worker="w", queue="cpu", extras=(), host=None, memory_bytes=1)

    with pytest.raises(FileNotFoundError, match="0123456789abcdef"):
        jobs._job(task, at=post)


def test_a_leaders_lines_name_the_request_that_made_the_task(make_task):
    with tracing.about(request_id="from-the-proxy"):
        task = make_task()

    assert jobs._request_of(task) == {"request_id": "from-the-proxy"}
    assert jobs._request_of(make_task()) == {}


def test_scratch_that_is_made_while_the_rows_are_read_stays(settings, monkeypatch, make_task):
    running = make_task(status=Status.RUNNING)
    for name in ("left-1", f"{running.id}-1"):
        (settings.SCRATCH_DIR / name).mkdir(parents=True)

    def read(_):
        (settings.SCRATCH_DIR / "fresh-1").mkdir()
        return {f"{running.id}-1"}

    monkeypatch.setattr(worker, "_with_database", read)
    worker.clear_scratch()

    left = {path.name for path in settings.SCRATCH_DIR.iterdir()}
    assert left == {"fresh-1", f"{running.id}-1"}

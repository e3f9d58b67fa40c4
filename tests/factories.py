"""Rows for tests. A task reaches its status through the lifecycle, so none is impossible."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models.functions import Now

from training import lifecycle
from training.models import Dataset, TaskEvent, TrainingTask, Worker
from training.states import Status

WORKER = "worker-1"

METRICS = {"ic": 0.031, "icir": 0.4, "rank_ic": 0.029, "information_ratio": 1.1}


def make_dataset(
    name: str = "demo", *, version: str = "v1", codes: Sequence[str] = ("AAA", "BBB", "CCC")
) -> Dataset:
    """A small synthetic market: few instruments, every weekday of ten years."""
    span = [date(2010, 1, 4) + timedelta(days=number) for number in range(3_649)]
    days = [day.isoformat() for day in span if day.weekday() < 5]
    manifest = {
        "name": name,
        "region": "us",
        "days": days,
        "fields": ["open", "high", "low", "close", "volume", "vwap", "change", "factor"],
        "instruments": {code: [days[0], days[-1]] for code in codes},
        "markets": {"all": list(codes)},
        "benchmarks": ["BENCH"],
    }
    return Dataset.objects.create(
        name=name,
        region="us",
        version=version,
        fingerprint="f" * 64,
        rows=len(codes) * len(days),
        first_day=days[0],
        last_day=days[-1],
        instrument_count=len(codes),
        synthetic=True,
        manifest=manifest,
    )


def make_worker(name: str = WORKER, *, queue: str = "cpu", extras: tuple[str, ...] = ()) -> Worker:
    """A worker that was seen just now."""
    worker, _ = Worker.objects.update_or_create(
        name=name,
        defaults={
            "host": "host-1",
            "pid": 4242,
            "queue": queue,
            "cores": 2,
            "memory_bytes": 4 * 1024**3,
            "extras": list(extras),
            "seen_at": Now(),
        },
    )
    return worker


def make_task(
    owner: User,
    *,
    status: Status = Status.PENDING,
    result: Mapping[str, Any] | None = None,
    **fields: Any,
) -> TrainingTask:
    """A task that has come to `status` by the lifecycle's own moves.

    result: of a completed one; fields: columns of the new row.
    """
    columns: dict[str, Any] = {
        "dataset": "demo",
        "dataset_version": "v1",
        "model": "LGBModel",
        "posted": "{}",
        "config": {"task": {}},
        "queue": "cpu",
    }
    task = lifecycle.create(TrainingTask(owner=owner, **{**columns, **fields}))
    if status != Status.PENDING:
        move(task, status, result=result)
    return TrainingTask.objects.select_related("owner").get(pk=task.pk)


def move(
    task: TrainingTask, status: Status, *, result: Mapping[str, Any] | None = None
) -> TrainingTask:
    """Lead a pending task to another status."""
    if status == Status.CANCELLED:
        return lifecycle.request_cancel(task.id)
    running = start(task)
    if status == Status.COMPLETED:
        told = {"metrics": METRICS} if result is None else result
        return lifecycle.complete(task.id, attempt=running.attempt, result=told)
    if status == Status.FAILED:
        return lifecycle.fail(
            task.id, attempt=running.attempt, code="training_error", error="it broke"
        )
    return running


def start(task: TrainingTask, *, worker: str = WORKER) -> TrainingTask:
    """Claim this very task: `claim_next` would take the best pending one of its queue."""
    running = lifecycle._claim(task.id, worker=worker)
    assert running is not None, f"{task.id} is not pending"
    return running


def events_of(task: TrainingTask) -> list[str]:
    """The kinds of the task's events, in their order."""
    kinds = TaskEvent.objects.filter(task_id=task.id).order_by("seq")
    return list(kinds.values_list("kind", flat=True))

"""The workers: who is there, and what each of them runs; the queues that they serve."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, Min, Q, Subquery
from django.db.models.functions import Now

from .errors import NotFound
from .models import TrainingTask, Worker
from .states import OPEN, Status

REMEMBERED = timedelta(days=1)
"""A worker that was not seen for so long is not listed any more."""


@dataclass(frozen=True)
class Member:
    """A worker, and how it is.

    runs: ids of the running tasks that the user may see; busy_count: of all that it runs.
    """

    worker: Worker
    alive: bool
    runs: tuple[str, ...]
    busy_count: int


@dataclass(frozen=True)
class Queue:
    """A queue's load over all owners, and the workers that serve it.

    oldest: when the oldest task that waits was made; oldest_s: how long ago.
    """

    name: str
    pending: int
    running: int
    workers: int
    oldest: datetime | None
    oldest_s: float | None


@dataclass(frozen=True)
class Wait:
    """What a pending task waits for.

    place: in its queue, 1 is next; ready, draining: live workers there that have what it needs.
    """

    place: int
    ready: int
    draining: int


def wait_of(task: TrainingTask) -> Wait:
    """The task's place among all owners' tasks, in the order in which workers claim them."""
    pending = TrainingTask.objects.filter(status=Status.PENDING, queue=task.queue)
    as_urgent = Q(priority=task.priority)
    # As the database has it: SQLite compares instants as texts, and Python writes longer ones.
    made_at = Subquery(TrainingTask.objects.filter(pk=task.pk).values("created_at"))
    ahead = pending.filter(
        Q(priority__lt=task.priority)
        | as_urgent & Q(created_at__lt=made_at)
        | as_urgent & Q(created_at=made_at, id__lt=task.id)
    )
    there = Worker.objects.alive().filter(queue=task.queue)
    able = [one for one in there if one.has(task.needs)]
    draining = sum(one.draining for one in able)
    return Wait(ahead.count() + 1, len(able) - draining, draining)


def queues() -> list[Queue]:
    """Every queue there is, in the order of the settings."""
    pending = Q(status=Status.PENDING)
    found = (
        TrainingTask.objects.filter(status__in=sorted(OPEN))
        .values("queue")
        .annotate(
            pending=Count("id", filter=pending),
            running=Count("id", filter=Q(status=Status.RUNNING)),
            oldest=Min("created_at", filter=pending),
            now=Now(),
        )
    )
    loads = {load["queue"]: load for load in found}
    serving = Worker.objects.alive().filter(draining=False).values_list("queue")
    workers = dict(serving.annotate(count=Count("name")))
    return [_queue(name, loads.get(name), workers.get(name, 0)) for name in settings.QUEUES]


def _queue(name: str, load: Mapping[str, Any] | None, workers: int) -> Queue:
    if load is None:
        return Queue(name, 0, 0, workers, None, None)
    oldest = load["oldest"]
    oldest_s = (load["now"] - oldest).total_seconds() if oldest else None
    return Queue(name, load["pending"], load["running"], workers, oldest, oldest_s)


def member(name: str, user: AbstractBaseUser | AnonymousUser) -> Member:
    """The worker of this name, as in the list of `members`. Raises: NotFound."""
    for one in members(user):
        if one.worker.name == name:
            return one
    raise NotFound(f"there is no worker {name!r}")


def members(user: AbstractBaseUser | AnonymousUser) -> list[Member]:
    """Workers that are there or were lately, by name; their tasks as the user may see them."""
    alive = set(Worker.objects.alive().values_list("name", flat=True))
    recent = Worker.objects.filter(seen_at__gte=Now() - REMEMBERED).order_by("name")
    running = TrainingTask.objects.filter(status=Status.RUNNING)
    runs = list(running.order_by("started_at").values_list("worker", "id"))
    seen = set(running.visible_to(user).values_list("id", flat=True))
    return [
        Member(
            worker=worker,
            alive=worker.name in alive,
            runs=tuple(task for name, task in runs if name == worker.name and task in seen),
            busy_count=sum(name == worker.name for name, _ in runs),
        )
        for worker in recent
    ]

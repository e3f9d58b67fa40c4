"""The workers: who is there, and what each of them runs."""

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models.functions import Now

from .errors import NotFound
from .models import TrainingTask, Worker
from .states import Status

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

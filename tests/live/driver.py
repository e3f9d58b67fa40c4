"""A process beside the web: commits what a worker and the API would, on request.

One JSON object a line in, `{"do": name, …}`, one out. A process of its own, because what is
tested is how news gets from one process to another.
"""

import json
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db.models.functions import Now  # noqa: E402
from django.test import Client  # noqa: E402
from knox.models import AuthToken  # noqa: E402

from tests import factories  # noqa: E402
from training import lifecycle, tokens  # noqa: E402
from training.lifecycle import News  # noqa: E402
from training.models import TaskEvent, TrainingTask, Worker  # noqa: E402
from training.states import Stage, Status  # noqa: E402


def user(name: str, *, is_staff: bool = False) -> dict[str, str]:
    """A user with a token and a session."""
    one = User.objects.create_user(name, is_staff=is_staff)
    client = Client()
    client.force_login(one)
    return {"token": tokens.create(one), "session": client.session.session_key or ""}


def task(owner: str, *, status: str = "running") -> str:
    """A task of the owner's, led to the status."""
    return factories.make_task(User.objects.get(username=owner), status=Status(status)).id


def market() -> None:
    """A dataset and a worker, so that workflows are taken; nobody runs them."""
    factories.make_dataset()
    worker = factories.make_worker()
    Worker.objects.filter(pk=worker.pk).update(seen_at=Now() + timedelta(days=1))


def report(task_id: str, *, first: int = 1, count: int = 1, pause_s: float = 0.0) -> int:
    """So many progress events, each with its number as message; the number of the last."""
    for number in range(first, first + count):
        lifecycle.report(task_id, News(progress=number / 100, message=f"n{number}"), attempt=1)
        time.sleep(pause_s)
    return _last_seq(task_id)


def stage(task_id: str, name: str) -> int:
    """The task enters a stage."""
    lifecycle.report(task_id, News(stages=((Stage(name), f"now {name}"),)), attempt=1)
    return _last_seq(task_id)


def log(task_id: str, *, chars: int, count: int) -> int:
    """So many log events of so many characters."""
    for number in range(count):
        news = News(log=f"{number:06}".ljust(chars, "x"), log_offset=number * chars)
        lifecycle.report(task_id, news, attempt=1)
    return _last_seq(task_id)


def complete(task_id: str) -> int:
    """The end."""
    lifecycle.complete(task_id, attempt=1, result={"metrics": factories.METRICS})
    return _last_seq(task_id)


def cancel(task_id: str) -> int:
    """Somebody asks for the end."""
    return lifecycle.request_cancel(task_id).last_seq


def delete(task_id: str) -> None:
    """The task goes."""
    lifecycle.delete(task_id)


def delete_silently(task_id: str) -> None:
    """The task goes and the announcement is lost."""
    TrainingTask.objects.filter(pk=task_id).delete()


def prune(task_id: str, *, below: int) -> None:
    """Old progress goes, as cleaning does it."""
    TaskEvent.objects.filter(task_id=task_id, kind="progress", seq__lt=below).delete()


def give_to(task_id: str, *, owner: str) -> None:
    """The task changes hands."""
    one = User.objects.get(username=owner)
    TrainingTask.objects.filter(pk=task_id).update(owner=one)


def revoke(name: str) -> None:
    """All tokens of the user end."""
    AuthToken.objects.filter(user__username=name).delete()


def log_out(name: str) -> None:
    """A new password: all sessions of the user end."""
    one = User.objects.get(username=name)
    one.set_password("new")
    one.save(update_fields=["password"])


def numbers(task_id: str) -> list[int]:
    """The numbers of the events that the database has."""
    rows = TaskEvent.objects.filter(task_id=task_id).order_by("seq")
    return list(rows.values_list("seq", flat=True))


def _last_seq(task_id: str) -> int:
    return TrainingTask.objects.values_list("last_seq", flat=True).get(pk=task_id)


def _orders() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


if __name__ == "__main__":
    for order in _orders():
        answer = globals()[order.pop("do")](**order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

"""The process dies at each boundary of each move; whoever comes next finds the truth.

`python -m tests.faults.crash_points ROUNDS`, as `apart.py` says. Boundaries: before and after
each statement, commit, announcement, ring and rename. A fork counts them and ends by
`os._exit(9)` at the n-th, for n = 1, 2, 3 … until it gets through. After each death the audit
must find nothing, then a reconciler and a worker lead the task to its end, and the audit must
find nothing again.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.faults import apart

DEAD = 9
KEY = "the same key"


@dataclass
class Countdown:
    """Dies at the n-th boundary; tells each that it passes."""

    left: int
    told: int

    def boundary(self, name: str) -> None:
        os.write(self.told, f"{name}\n".encode())
        self.left -= 1
        if self.left == 0:
            os._exit(DEAD)

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        self.boundary(f"before {what}")
        yield
        self.boundary(f"after {what}")

    def wrap(self, owner: Any, name: str, what: str) -> None:
        """Boundaries around each call of the owner's function."""
        inner = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.around(what):
                return inner(*args, **kwargs)

        setattr(owner, name, counted)

    def arm(self) -> None:
        from django.db import connection

        from training import events
        from training.work import queue

        def statement(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
            with self.around(sql.split(maxsplit=1)[0]):
                return execute(sql, *rest)

        connection.execute_wrappers.append(statement)
        self.wrap(connection, "commit", "commit")
        self.wrap(events.recorded, "send_robust", "announcement")
        self.wrap(queue, "ring", "ring")
        self.wrap(Path, "rename", "rename")


# ── The moves ───────────────────────────────────────────────────────────────────────────


def scenarios() -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """By name: the status that the task must have before, and the move."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from training import lifecycle, services
    from training.states import RequeueReason, Stage
    from training.work import reconcile

    owner = User.objects.get(username="owner")
    news = lifecycle.News(
        progress=10.0,
        stages=((Stage.FIT, "fit"),),
        points=(("l2", 1, 0.5, timezone.now()),),
        log="a line\n",
    )
    return {
        "submit": ("", lambda _: submit()),
        "claim": (
            "pending",
            lambda task: lifecycle.claim_next("cpu", extras=[], worker="w"),
        ),
        "renew": ("running", lambda task: lifecycle.renew(task.id, attempt=1)),
        "report": ("running", lambda task: lifecycle.report(task.id, news, attempt=1)),
        "complete": ("running", finish),
        "fail": (
            "running",
            lambda task: lifecycle.fail(task.id, attempt=1, code="x", error="y"),
        ),
        "cancel-pending": ("pending", lambda task: services.cancel(task.id, user=owner)),
        "cancel-running": ("running", lambda task: services.cancel(task.id, user=owner)),
        "give-back": (
            "running",
            lambda task: lifecycle.requeue(task.id, attempt=1, reason=RequeueReason.SHUTDOWN),
        ),
        "expire": ("expired", lambda _: reconcile.once()),
        "delete": ("completed", lambda task: services.delete(task.id, user=owner)),
    }


def submit() -> Any:
    import json

    from django.contrib.auth.models import User

    from training import services
    from training.api.submit import EXAMPLE

    return services.submit(
        json.dumps(EXAMPLE).encode(),
        content_type="application/json",
        owner=User.objects.get(username="owner"),
        idempotency_key=KEY,
    )


def finish(task: Any) -> None:
    """The end of a leader: files into their place, then the row, then what they replace."""
    from django.conf import settings

    from training import archive, lifecycle

    scratch = settings.SCRATCH_DIR / f"{task.id}-{task.attempt}"
    saved = scratch / archive.HOME / "artifacts"
    saved.mkdir(parents=True)
    (saved / "pred.bin").write_bytes(os.urandom(1_000))
    (scratch / archive.LOG).write_text("a line\n")
    kept = archive.keep(task, scratch, final=None, kind="completed", points=[])
    result = {"metrics": {"ic": 0.5}, "artifacts": kept}
    lifecycle.complete(task.id, attempt=task.attempt, result=result)
    archive.clear_rows(task)


# ── Dying, and what comes after ─────────────────────────────────────────────────────────


def die_at(number: int, act: Callable[[], Any]) -> tuple[bool, list[str]]:
    """Whether it died there, and the boundaries that it came to."""
    from django.db import connections

    connections.close_all()
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            Countdown(number, there).arm()
            act()
            code = 0
        finally:
            os._exit(code)
    os.close(there)
    with os.fdopen(here) as told:
        passed = told.read().split("\n")[:-1]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, DEAD), f"it failed by itself after {passed}"
    return code == DEAD, passed


def prepare(status: str) -> Any:
    from django.contrib.auth.models import User

    from tests import factories
    from training.models import TrainingTask
    from training.states import Status

    if not status:
        return None
    owner = User.objects.get(username="owner")
    if status != "completed":
        wanted = Status.RUNNING if status == "expired" else Status(status)
        task = factories.make_task(owner, status=wanted)
        if status == "expired":
            let_leases_end()
        return task
    task = factories.make_task(owner, status=Status.RUNNING)
    finish(task)
    return TrainingTask.objects.get(pk=task.pk)


def let_leases_end() -> None:
    from django.db.models.functions import Now

    from training.models import TrainingTask

    rows = TrainingTask.objects.filter(status="running")
    rows.update(lease_until=Now() - timedelta(minutes=1))


def recover(name: str) -> None:
    """What a client, a reconciler and a worker do next."""
    from training import lifecycle
    from training.models import IdempotencyKey, TrainingTask
    from training.work import reconcile

    if name == "submit":
        first, second = submit(), submit()
        assert first.task == second.task
        assert (TrainingTask.objects.count(), IdempotencyKey.objects.count()) == (1, 1)
    let_leases_end()
    reconcile.expire_leases()
    while task := lifecycle.claim_next("cpu", extras=["torch"], worker="successor"):
        finish(task)


def judge(when: str) -> None:
    from training import audit

    violations = [str(one) for one in audit.run(grace=timedelta(days=1)).violations]
    assert violations == [], f"{when}: {violations}"


def one_point(name: str, number: int) -> tuple[bool, list[str]]:
    import shutil

    from django.conf import settings

    from training.models import TrainingTask

    TrainingTask.objects.all().delete()
    shutil.rmtree(settings.ARTIFACTS_DIR, ignore_errors=True)
    status, move = scenarios()[name]
    task = prepare(status)
    died, passed = die_at(number, lambda: move(task))
    where = f"{name}, dead {passed[-1]} (number {number})" if died else name
    judge(where)
    recover(name)
    judge(f"{where}, recovered")
    still_open = TrainingTask.objects.filter(completed_at=None).count()
    assert still_open == 0, f"{where}: {still_open} tasks are open"
    return died, passed


def main(rounds: int) -> int:
    apart.start()
    from django.contrib.auth.models import User

    from tests import factories

    User.objects.create_user("owner")
    factories.make_dataset()
    factories.make_worker()
    deaths = 0
    for name in scenarios():
        for _ in range(rounds):
            number, died = 0, True
            while died:
                number += 1
                died, passed = one_point(name, number)
                deaths += died
        print(f"{name}: {len(passed)} points: {', '.join(passed)}")  # noqa: T201
    print(f"{deaths} deaths, no violation")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

"""Eight processes act on one task at the same instant: one wins, the others are told.

`python -m tests.faults.race ROUNDS`, as `apart.py` says; exit code 1 at the first violation.
"""

import multiprocessing
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from tests.faults import apart

PROCESSES = 8
TASKS = 3
"""Pending ones in a round: fewer than those who want one."""

ENDERS = ("complete", "fail", "cancel_running", "requeue", "expire", "expire")
"""Six ways to end an attempt, two reconcilers among them; the rest asks for a cancel."""


def act(number: int, what: str, task: Any) -> str:
    """What process `number` does in a race, and what came of it."""
    from training import lifecycle
    from training.errors import AlreadyFinished, Fenced
    from training.states import RequeueReason

    if what == "claim":
        claimed = lifecycle.claim_next("cpu", extras=[], worker=f"w{number}")
        return claimed.id if claimed else ""
    task_id, attempt, lease_until = task
    ways: dict[str, Callable[[], Any]] = {
        "complete": lambda: lifecycle.complete(task_id, attempt=attempt, result={}),
        "fail": lambda: lifecycle.fail(task_id, attempt=attempt, code="x", error="y"),
        "cancel_running": lambda: lifecycle.cancel_running(task_id, attempt=attempt),
        "requeue": lambda: lifecycle.requeue(
            task_id, attempt=attempt, reason=RequeueReason.HOST_LOST
        ),
        "expire": lambda: lifecycle.expire(task_id, attempt=attempt, lease_until=lease_until),
    }
    if number >= len(ENDERS):
        # That somebody was first is fine.
        with suppress(AlreadyFinished):
            lifecycle.request_cancel(task_id)
        return ""
    try:
        return ENDERS[number] if ways[ENDERS[number]]() else ""
    except Fenced:
        return ""


def racer(number: int, orders: Connection, barrier: Any) -> None:
    """One process: waits for the others, acts, tells."""
    while (order := orders.recv()) is not None:
        barrier.wait()
        try:
            orders.send(act(number, *order))
        except Exception as error:  # an error of any kind is what the race looks for
            orders.send(f"ERROR {error!r}")


def main(rounds: int) -> int:
    apart.start()
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(PROCESSES)
    pipes = [fork.Pipe() for _ in range(PROCESSES)]
    racers = [
        fork.Process(target=racer, args=(number, there, barrier), daemon=True)
        for number, (_, there) in enumerate(pipes)
    ]
    for one in racers:
        one.start()
    ends = [here for here, _ in pipes]
    wins: dict[str, int] = {}
    for number in range(rounds):
        wrong, winner = one_round(ends)
        wins[winner] = wins.get(winner, 0) + 1
        if wrong:
            print(f"round {number}: {wrong}")  # noqa: T201
            return 1
    for end in ends:
        end.send(None)
    return judge(rounds, wins)


def race(ends: list[Connection], what: str, task: Any = None) -> list[str]:
    for end in ends:
        end.send((what, task))
    return [end.recv() for end in ends]


def one_round(ends: list[Connection]) -> tuple[str, str]:
    """What was wrong in it, and who won."""
    from django.contrib.auth.models import User
    from django.db.models.functions import Now

    from tests import factories
    from training import lifecycle
    from training.models import TrainingTask

    owner, _ = User.objects.get_or_create(username="owner")
    tasks = [factories.make_task(owner) for _ in range(TASKS)]
    claimed = sorted(filter(None, race(ends, "claim")))
    if claimed != sorted(task.id for task in tasks):
        return f"claimed {claimed}", ""
    row = TrainingTask.objects.filter(pk=tasks[0].id)
    row.update(lease_until=Now() - timedelta(minutes=1))
    seen = row.values_list("id", "attempt", "lease_until")[0]
    winners = [told for told in race(ends, "end", seen) if told]
    for task in TrainingTask.objects.filter(status__in=["running", "pending"]):
        if task.status == "pending":
            lifecycle.request_cancel(task.id)
        else:
            lifecycle.fail(task.id, attempt=task.attempt, code="x", error="y")
    wrong = "" if len(winners) == 1 and "ERROR" not in winners[0] else f"{winners} have won"
    return wrong, "".join(winners[:1])


def judge(rounds: int, wins: dict[str, int]) -> int:
    from training import audit

    report = audit.run()
    for violation in report.violations:
        print(violation)  # noqa: T201
    print(f"{rounds} rounds, {report.tasks} tasks, won by {wins}")  # noqa: T201
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

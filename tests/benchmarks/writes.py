"""Many leaders that report at once: does any of them, or a reader, ever meet a lock?

    python -m tests.benchmarks.writes sqlite --seconds 600
    python -m tests.benchmarks.writes sqlite --reports 16.7               # 400 event rows a second
    python -m tests.benchmarks.writes postgresql --reports 25 --events 75  # 200 writes a second

Each worker is a process that claims a task, tells its ledger of progress, points and lines of log,
50 times a second, and completes it after half a minute. The ledger gathers what it is told, as
ever, unless `--reports` makes it report so often. One more process submits, lists and reads
beside them, as the web does. Nobody listens. Prints one line of JSON: a write is one transaction
of `lifecycle.report`, of at most three events. Exit code 1: an error was met, or the audit has
found something.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults import apart

TASK_S = 30.0
QUEUE = "cpu"


class Watch:
    """Durations in seconds, and errors, of the functions that it wraps."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {}
        self.errors: list[str] = []

    def wrap(self, owner: Any, name: str) -> None:
        inner = getattr(owner, name)
        took = self.took.setdefault(name, [])

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            except Exception as error:
                self.errors.append(f"{name}: {error!r}")
                raise
            finally:
                took.append(time.perf_counter() - begun)

        setattr(owner, name, timed)

    def told(self) -> dict[str, Any]:
        return {"took": self.took, "errors": self.errors}


def work(number: int, *, events: float, reports: float, until: float, told: Any) -> None:
    """Lead one task after the other."""
    from training import ledger, lifecycle

    if reports:
        ledger.REPORT_EVERY_S = 1 / reports
    watch = Watch()
    for name in ("report", "renew", "look", "claim_next", "complete"):
        watch.wrap(lifecycle, name)
    try:
        while time.time() < until:
            submit()
            task = lifecycle.claim_next(QUEUE, extras=[], worker=f"worker-{number}")
            if task is not None:
                lead(task, per_second=events, until=min(until, time.time() + TASK_S))
    except Exception as error:
        watch.errors.append(f"worker {number} ends: {error!r}")
        raise
    finally:
        told.put(watch.told())


def lead(task: Any, *, per_second: float, until: float) -> None:
    """Tell the ledger as a training would: progress, a point, a line of log, and again."""
    from django.utils import timezone

    from training import ledger, lifecycle
    from training.states import Stage

    book = ledger.Ledger(task.id, attempt=task.attempt)
    book.start()
    book.stage(Stage.FIT, message="fit", progress=10.0)
    step, next_at = 0, time.time()
    while time.time() < until:
        step += 1
        if step % 3 == 0:
            percent = min(10.0 + step / 100, 90.0)
            detail = {"stage": "fit", "done": step, "total": 10_000, "unit": "round"}
            book.progress(percent, message=f"round {step}", detail=detail)
        elif step % 3 == 1:
            book.points([("l2.valid", step, 1 / step, timezone.now())])
        else:
            book.log(f"round {step}: l2 {1 / step:.6f}\n")
        next_at += 1 / per_second
        time.sleep(max(next_at - time.time(), 0))
    book.close()
    lifecycle.complete(task.id, attempt=task.attempt, result={"metrics": {"ic": 0.5}})


def submit() -> None:
    from django.contrib.auth.models import User

    from tests import factories

    factories.make_task(User.objects.get(username="owner"))


def read(*, until: float, told: Any) -> None:
    """What the web does meanwhile: lists, tasks, events."""
    from django.contrib.auth.models import User

    from training import lifecycle
    from training.models import TaskEvent, TrainingTask

    watch = Watch()
    look = Watch()

    def once() -> None:
        owner = User.objects.get(username="owner")
        for task in TrainingTask.objects.visible_to(owner).order_by("-created_at", "-id")[:20]:
            list(TaskEvent.objects.filter(task=task).order_by("-seq")[:50])

    holder = argparse.Namespace(once=once, submit=submit)
    look.wrap(holder, "once")
    watch.wrap(holder, "submit")
    watch.wrap(lifecycle, "request_cancel")
    try:
        while time.time() < until:
            holder.once()
            holder.submit()
            newest = TrainingTask.objects.filter(status="pending").order_by("-created_at").first()
            if newest:
                lifecycle.request_cancel(newest.id)
            time.sleep(0.5)
    finally:
        told.put({"took": {**watch.took, **look.took}, "errors": watch.errors + look.errors})


def inside(given: argparse.Namespace) -> int:
    """The benchmark itself, on the database of this process."""
    apart.start()
    from django.contrib.auth.models import User

    User.objects.create_user("owner")
    from django.db import connections

    connections.close_all()
    fork = multiprocessing.get_context("fork")
    told, begun = fork.Queue(), time.time()
    until = begun + given.seconds
    pace = {"events": given.events, "reports": given.reports, "until": until, "told": told}
    many = [
        fork.Process(target=work, args=(number,), kwargs=pace) for number in range(given.workers)
    ]
    processes = [*many, fork.Process(target=read, kwargs={"until": until, "told": told})]
    for one in processes:
        one.start()
    answers = [told.get() for _ in processes]
    for one in processes:
        one.join()
    return judge(given, answers, time.time() - begun)


def judge(given: argparse.Namespace, answers: list[dict[str, Any]], seconds: float) -> int:
    from training import audit
    from training.models import TaskEvent

    errors = [error for answer in answers for error in answer["errors"]]
    report = audit.run()
    took: dict[str, list[float]] = {}
    for answer in answers:
        for name, values in answer["took"].items():
            took.setdefault(name, []).extend(values)
    told = {
        "workers": given.workers,
        "seconds": round(seconds, 1),
        "writes_per_s": round(len(took["report"]) / seconds, 1),
        "told_per_s": given.workers * given.events,
        "event_rows_per_s": round(TaskEvent.objects.count() / seconds, 1),
        "ms": {name: spread(values) for name, values in sorted(took.items())},
        "errors": len(errors),
        "first_errors": errors[:3],
        "tasks": report.tasks,
        "violations": [str(one) for one in report.violations][:3],
        "load": os.getloadavg(),
    }
    print(json.dumps(told))  # noqa: T201
    return 1 if errors or report.violations else 0


def spread(values: list[float]) -> dict[str, float]:
    """Milliseconds: median, 99th percentile, greatest."""
    ordered = sorted(values) or [0.0]
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        name: round(1_000 * ordered[min(int(part * len(ordered)), len(ordered) - 1)], 1)
        for name, part in at.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", choices=["sqlite", "postgresql", "inside"])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--events", type=float, default=50.0, help="told a second, by each")
    parser.add_argument("--reports", type=float, default=0.0, help="a second, of each; 0: as ever")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.database == "inside":
        return inside(given)
    again = ["inside", "--workers", given.workers, "--reports", given.reports]
    again += ["--seconds", given.seconds, "--events", given.events]
    with tempfile.TemporaryDirectory(prefix="writes-") as place:
        told = apart.run(
            "tests.benchmarks.writes",
            *map(str, again),
            database=given.database,
            place=Path(place),
        )
    sys.stdout.write(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())

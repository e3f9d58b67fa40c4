"""Looks whether the database keeps its promises: every invariant, task by task.

Reads only. Each rule is one query over a slice of tasks, and so sees one instant of them: it may
run beside everything else, and is of no weight for a large table.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, F, Max, Min, OuterRef, Q, QuerySet, Subquery, When, Window
from django.db.models.functions import Lag, Now

from . import archive
from .models import HEADLINES, LogChunk, TaskEvent, TaskTag, TrainingTask
from .retention import PRUNED_KINDS
from .states import FINAL, FINAL_KINDS, EventKind, RequeueReason, Status

SLICE = 2_000
"""Tasks in one query: seconds at most, even with hundreds of events each."""

A_DAY = timedelta(days=1)
"""Nothing is pruned earlier: retention counts in days."""

Rows = QuerySet[TrainingTask]


@dataclass(frozen=True)
class Violation:
    """One promise that is not kept; rule: its name in `RULES`."""

    task_id: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.task_id}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Report:
    """What was looked at, and what was wrong with it."""

    tasks: int
    violations: list[Violation]


def run(*, grace: timedelta | None = None, hashes: bool = True) -> Report:
    """Check every task.

    grace: how long a lease may be over before somebody should have acted, by default one lease
    (what the reconciler waits after a start or an outage). hashes: read every artifact; without
    it only names and sizes are compared.
    """
    rules: dict[str, Rule] = {
        **RULES,
        "lease": partial(_leases, grace=settings.LEASE if grace is None else grace),
        "artifacts": partial(_artifacts, hashes=hashes),
    }
    tasks, violations = 0, []
    for rows in _slices():
        tasks += rows.count()
        for name, rule in rules.items():
            violations += [Violation(task_id, name, text) for task_id, text in rule(rows)]
    return Report(tasks, violations)


def _slices() -> Iterator[Rows]:
    """All tasks in slices, each of them a range of ids."""
    last = ""
    while True:
        ids = TrainingTask.objects.filter(id__gt=last).order_by("id").values_list("id", flat=True)
        chosen = list(ids[:SLICE])
        if not chosen:
            return
        yield TrainingTask.objects.filter(id__gt=last, id__lte=chosen[-1])
        last = chosen[-1]


Found = Iterator[tuple[str, str]]
"""The id of a task, and what is wrong with it."""

Rule = Callable[[Rows], Found]


def _numbers(rows: Rows) -> Found:
    """Events are numbered 1, 2, 3 … to the task's newest; the database keeps them distinct.

    Of a task that ended days ago retention may have removed all that is many.
    """
    counted = rows.values("id", "last_seq").annotate(
        count=Count("events"),
        first=Min("events__seq"),
        newest=Max("events__seq"),
        many=Count("events", filter=Q(events__kind__in=PRUNED_KINDS)),
        is_past=Case(When(completed_at__lt=Now() - A_DAY, then=True), default=False),
    )
    for row in counted:
        last = row["last_seq"]
        is_pruned = row["is_past"] and not row["many"]
        wanted = (1, row["count"] if is_pruned else last, last)
        if (row["first"], row["count"], row["newest"]) != wanted:
            yield (
                row["id"],
                f"{row['count']} events from {row['first']} to {row['newest']}, "
                f"the task's newest is {last}",
            )


def _ends(rows: Rows) -> Found:
    """A final task has one final event, its last, of its own kind; another task has none."""
    ends = Q(events__kind__in=sorted(FINAL_KINDS))
    counted = rows.values("id", "status", "last_seq").annotate(
        count=Count("events", filter=ends),
        kind=Max("events__kind", filter=ends),
        seq=Max("events__seq", filter=ends),
    )
    for row in counted:
        is_final = row["status"] in FINAL
        wanted = (1, row["status"], row["last_seq"]) if is_final else (0, None, None)
        if (row["count"], row["kind"], row["seq"]) != wanted:
            yield (
                row["id"],
                f"it is {row['status']} with {row['count']} final events "
                f"(last: {row['kind']}, number {row['seq']} of {row['last_seq']})",
            )


def _state(rows: Rows) -> Found:
    """The row says what its newest event says."""
    names = ("status", "stage", "progress", "attempt", "message")
    newest = TaskEvent.objects.filter(task=OuterRef("pk")).order_by("-seq")
    told = {f"told_{name}": Subquery(newest.values(name)[:1]) for name in names}
    for row in rows.annotate(**told).values("id", *names, *told):
        for name in names:
            if row[name] != row[f"told_{name}"]:
                yield (
                    row["id"],
                    f"{name} is {row[name]!r}, its last event says " + repr(row[f"told_{name}"]),
                )


def _columns(rows: Rows) -> Found:
    """What goes with a status goes with it, and with no other."""
    for row in rows.values(
        "id", "status", "lease_until", "completed_at", "started_at", "attempt", "worker", "progress"
    ):
        status, running = row["status"], row["status"] == Status.RUNNING
        if running != (row["lease_until"] is not None):
            yield row["id"], f"it is {status}, its lease ends {row['lease_until']}"
        if (status in FINAL) != (row["completed_at"] is not None):
            yield row["id"], f"it is {status}, completed at {row['completed_at']}"
        if (row["attempt"] > 0) != (row["started_at"] is not None):
            yield row["id"], f"attempt {row['attempt']}, started at {row['started_at']}"
        if (status == Status.COMPLETED) != (row["progress"] == 100.0):
            yield row["id"], f"it is {status} at {row['progress']} %"
        if running and not row["worker"]:
            yield row["id"], "it is running on no worker"


def _errors(rows: Rows) -> Found:
    """A failed task says why, and no other does."""
    for row in rows.values("id", "status", "error", "error_code"):
        failed = row["status"] == Status.FAILED
        if failed != bool(row["error_code"]) or failed != bool(row["error"]):
            yield row["id"], f"it is {row['status']}, {row['error_code']!r}: {row['error']!r}"


def _attempts(rows: Rows) -> Found:
    """Each claim is told once, each loss counted once, and none beyond what was allowed."""
    lost = [RequeueReason.WORKER_LOST, RequeueReason.HOST_LOST]
    counted = rows.values("id", "status", "attempt", "losses", "max_attempts").annotate(
        starts=Count("events", filter=Q(events__kind=EventKind.STARTED)),
        requeues=Count("events", filter=Q(events__kind=EventKind.REQUEUED)),
        lost=Count(
            "events", filter=Q(events__kind=EventKind.REQUEUED, events__data__reason__in=lost)
        ),
    )
    for row in counted:
        if row["starts"] != row["attempt"]:
            yield row["id"], f"attempt {row['attempt']} after {row['starts']} starts"
        if row["lost"] != row["losses"]:
            yield row["id"], f"{row['losses']} losses, {row['lost']} are told"
        if row["losses"] >= row["max_attempts"]:
            yield row["id"], f"{row['losses']} losses of {row['max_attempts']} attempts"
        open_starts = row["starts"] - row["requeues"]
        if open_starts not in _OPEN_STARTS[Status(row["status"])]:
            yield (
                row["id"],
                f"it is {row['status']} after {row['starts']} starts, {row['requeues']} requeues",
            )


_OPEN_STARTS = {
    Status.PENDING: {0},
    Status.RUNNING: {1},
    Status.COMPLETED: {1},
    Status.FAILED: {0, 1},
    Status.CANCELLED: {0, 1},
}
"""How many starts have no requeue after them."""


def _progress(rows: Rows) -> Found:
    """Within one attempt progress never falls, and 100 is said by `completed` alone."""
    before = Window(Lag("progress"), partition_by=["task_id", "attempt"], order_by="seq")
    events = TaskEvent.objects.filter(task__in=rows.values("id"))
    falls = events.annotate(before=before).filter(progress__lt=F("before"))
    for fall in falls.values("task_id", "seq", "progress", "before"):
        yield fall["task_id"], f"{fall['before']} falls to {fall['progress']} at {fall['seq']}"
    early = events.filter(Q(progress=100.0) & ~Q(kind=EventKind.COMPLETED))
    for event in early.values("task_id", "seq", "kind"):
        yield event["task_id"], f"100 % at {event['seq']}, which is {event['kind']}"


def _log(rows: Rows) -> Found:
    """The log's pieces follow each other without a hole."""
    chunks = LogChunk.objects.filter(task__in=rows.values("id"))
    end = Window(
        Lag(F("offset") + F("size"), default=0),
        partition_by=["task_id", "attempt"],
        order_by="offset",
    )
    holes = chunks.annotate(end=end).exclude(offset=F("end"))
    for piece in holes.values("task_id", "attempt", "offset", "end"):
        yield (
            piece["task_id"],
            f"attempt {piece['attempt']} has a piece at {piece['offset']} after {piece['end']}",
        )


def _tags(rows: Rows) -> Found:
    """The tags of a list's filter are the task's."""
    kept: dict[str, set[str]] = {}
    for task_id, name in TaskTag.objects.filter(task__in=rows.values("id")).values_list(
        "task_id", "name"
    ):
        kept.setdefault(task_id, set()).add(name)
    for task_id, tags in rows.values_list("id", "tags"):
        if set(tags) != kept.get(task_id, set()):
            yield task_id, f"its tags are {tags}, lists find it by {sorted(kept.get(task_id, ()))}"


def _headlines(rows: Rows) -> Found:
    """The metrics that lists are ordered by are the result's."""
    for row in rows.filter(status=Status.COMPLETED).values("id", "result", *HEADLINES).iterator():
        metrics = row["result"].get("metrics", {})
        for name in HEADLINES:
            if row[name] != metrics.get(name):
                yield row["id"], f"{name} is {row[name]}, the result says {metrics.get(name)}"


def _leases(rows: Rows, *, grace: timedelta) -> Found:
    """Nobody runs without a lease for long: the reconciler acts."""
    over = rows.filter(status=Status.RUNNING, lease_until__lt=Now() - grace)
    for task_id, until in over.values_list("id", "lease_until"):
        yield task_id, f"the lease was over at {until:%H:%M:%S}, and nobody has acted"


def _artifacts(rows: Rows, *, hashes: bool) -> Found:
    """A completed task's files are those of its result, to the byte."""
    done = rows.filter(status=Status.COMPLETED).only("id", "attempt", "result", "pinned")
    for task in done.iterator():
        folder = archive.folder(task)
        if archive.is_pruned(task):
            continue
        listed = {one["path"]: one for one in task.result.get("artifacts", [])}
        present = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file()
        }
        # The task may have been deleted since it was read, and its files with it.
        if listed.keys() != present.keys() and _is_there(task):
            lost = sorted(listed.keys() - present.keys())
            yield task.id, f"missing: {lost}, unknown: {sorted(present.keys() - listed.keys())}"
        for name in sorted(listed.keys() & present.keys()):
            if not _is_as_told(present[name], listed[name], hashes=hashes) and _is_there(task):
                yield task.id, f"{name} is not what the result says of it"


def _is_there(task: TrainingTask) -> bool:
    return TrainingTask.objects.filter(pk=task.pk).exists()


def _is_as_told(path: Path, told: dict[str, Any], *, hashes: bool) -> bool:
    try:
        if path.stat().st_size != told["bytes"]:
            return False
        if not hashes:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == str(told["sha256"])
    except FileNotFoundError:
        return False


RULES: dict[str, Rule] = {
    "numbers": _numbers,
    "ends": _ends,
    "state": _state,
    "columns": _columns,
    "errors": _errors,
    "attempts": _attempts,
    "progress": _progress,
    "log": _log,
    "tags": _tags,
    "headlines": _headlines,
}
"""The rules that need nothing but the rows; `run` adds leases and artifacts."""

"""What sockets read from the database, on a few threads of their own.

Channels' default is one thread for all sockets of a process: one slow query would hold up
everybody's (a 4 s query delayed another socket by 4 s when it was tried). So the threads here
bound the database connections of all sockets together.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from django.db import InterfaceError, OperationalError, connections
from django.db.models import Max
from django.db.models.functions import Now

from training import events
from training.models import TaskEvent, TrainingTask

from .publish import to_text

POOL = ThreadPoolExecutor(max_workers=4, thread_name_prefix="live-database")

PAGE = 200
"""Events read at once."""

LIST_MAX = 1_000
"""Tasks that a list's socket is told of when it connects: the newest."""

OVERLAP = timedelta(seconds=30)
"""Ids of events are given before the commit and so become visible out of order; no transaction
lasts as long as this. A list looks back so far, and may tell a state twice."""

_CHUNK = 500

T = TypeVar("T")


class Line(NamedTuple):
    """One message of a task, ready to be sent."""

    seq: int
    kind: str
    text: str


class State(NamedTuple):
    """A task as lists show it; the message lacks its cursor yet."""

    task_id: str
    seq: int
    owner_id: int
    message: dict[str, Any]


async def run(read: Callable[..., T], *args: Any) -> T:
    """Call a reading function on one of the threads. Raises: what it raises."""
    return await asyncio.get_running_loop().run_in_executor(POOL, _read, read, *args)


def _read(read: Callable[..., T], *args: Any) -> T:
    """Read over the thread's own connection, which stays open: opening one for each reading, as
    Django does for each request, takes longer than the reading.
    """
    try:
        return read(*args)
    except (OperationalError, InterfaceError):
        # The connection has died of age, or of a database that was restarted: once more, anew.
        connections.close_all()
        return read(*args)


# ── One task ────────────────────────────────────────────────────────────────────────────


def events_after(task_id: str, after: int) -> list[Line]:
    """The next page of the task's events, in order; may have holes where they were pruned."""
    rows = TaskEvent.objects.filter(task_id=task_id, seq__gt=after).order_by("seq")[:PAGE]
    return [Line(row.seq, row.kind, to_text(events.to_wire(row))) for row in rows]


def newest_seqs(task_ids: Iterable[str]) -> dict[str, int]:
    """The number of each task's newest event; a task that is gone is absent."""
    rows = TrainingTask.objects.all()
    return {
        task_id: seq
        for some in chunks(task_ids)
        for task_id, seq in rows.filter(pk__in=some).values_list("pk", "last_seq")
    }


def missing_events(ends: Mapping[str, int]) -> dict[str, list[Line]]:
    """What each of the tasks has after the number given, one page each."""
    return {task_id: events_after(task_id, end) for task_id, end in ends.items()}


# ── Lists ───────────────────────────────────────────────────────────────────────────────


def safe_event_id() -> int:
    """An id such that every event up to it has been visible for long: a place to resume from."""
    old = TaskEvent.objects.filter(at__lt=Now() - OVERLAP).order_by("-pk")
    return old.values_list("pk", flat=True).first() or 0


def changed_since(event_id: int, *, limit: int | None = None) -> dict[str, int]:
    """Tasks with a later event than this, and the number of their newest."""
    rows = TaskEvent.objects.filter(pk__gt=event_id).values_list("task_id")
    return dict(rows.annotate(newest=Max("seq")).order_by()[:limit])


def states_of(task_ids: Iterable[str]) -> list[State]:
    """The states of those tasks that are there."""
    rows = TrainingTask.objects.select_related("owner").defer("config", "posted", "result")
    return [_state(task) for some in chunks(task_ids) for task in rows.filter(pk__in=some)]


def states_for(owner_id: int | None, since: int | None) -> list[State]:
    """What a list's socket is told first: what changed since, else the newest tasks.

    owner_id: whose tasks; None for all.
    """
    rows = TrainingTask.objects.select_related("owner").defer("config", "posted", "result")
    if owner_id is not None:
        rows = rows.filter(owner_id=owner_id)
    if since is not None:
        changed = changed_since(since, limit=LIST_MAX + 1)
        # More than a page of changes, or a number from another database: begin anew.
        if len(changed) <= LIST_MAX and _is_past(since):
            return [_state(t) for some in chunks(changed) for t in rows.filter(pk__in=some)]
    return [_state(task) for task in rows.order_by("-created_at", "-pk")[:LIST_MAX]]


def _is_past(event_id: int) -> bool:
    newest = TaskEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return event_id <= newest


def _state(task: TrainingTask) -> State:
    shown = (
        "name", "tags", "model", "dataset", "queue", "worker", "attempt", "error", "error_code",
        "pinned", "ic", "rank_ic", "annualized_return", "information_ratio", "max_drawdown",
    )  # fmt: skip
    instants = (
        "created_at",
        "started_at",
        "completed_at",
        "cancel_requested_at",
        "finish_requested_at",
    )
    data = {name: getattr(task, name) for name in shown}
    data |= {name: events.instant(getattr(task, name)) for name in instants}
    data["owner"] = task.owner.get_username()
    message = {
        "type": "state",
        "task_id": task.id,
        "seq": task.last_seq,
        "status": task.status,
        "progress": task.progress,
        "stage": task.stage,
        "message": task.message,
        "timestamp": events.instant(task.completed_at or task.started_at or task.created_at),
        "data": data,
    }
    return State(task.id, task.last_seq, task.owner_id, message)


def chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    """The ids in lists that a database takes as parameters."""
    whole = list(ids)
    for start in range(0, len(whole), _CHUNK):
        yield whole[start : start + _CHUNK]

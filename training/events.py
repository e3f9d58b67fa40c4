"""The only maker of events: a row now, an announcement after the commit.

`recorded` is the one signal of this app. A lost announcement is no loss: every listener looks
for missed events by itself.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from .models import TaskEvent, TrainingTask
from .sanitise import clean
from .states import EventKind

recorded = Signal()
"""Sent after the commit with `messages`: what listeners of the task get, in wire form."""

Happening = tuple[EventKind, Mapping[str, Any] | None]
"""The kind of an event, and its own data."""


def record(task: TrainingTask, *happenings: Happening) -> None:
    """Write the events of the change that `task` has just gone through, in its transaction.

    The last of them gets the number `task.last_seq`, those before it the numbers before.
    """
    first = task.last_seq - len(happenings) + 1
    rows = [
        TaskEvent(
            task=task,
            seq=seq,
            attempt=task.attempt,
            kind=kind,
            status=task.status,
            stage=task.stage,
            progress=task.progress,
            message=task.message,
            data=clean(dict(data or {})),
        )
        for seq, (kind, data) in enumerate(happenings, first)
    ]
    written = TaskEvent.objects.bulk_create(rows)
    announce([to_wire(row) for row in written], owner_id=task.owner_id)


def announce(messages: list[dict[str, Any]], *, owner_id: int) -> None:
    """Tell the listeners once the surrounding transaction is committed, of one task's events."""
    transaction.on_commit(
        lambda: recorded.send_robust(sender=TaskEvent, messages=messages, owner_id=owner_id),
        robust=True,
    )


def to_wire(event: TaskEvent) -> dict[str, Any]:
    """The event as listeners and `GET …/events` get it."""
    return {
        "type": event.kind,
        "task_id": event.task_id,
        "seq": event.seq,
        "attempt": event.attempt,
        "status": event.status,
        "progress": event.progress,
        "stage": event.stage,
        "message": event.message,
        "timestamp": instant(event.at),
        "data": event.data,
    }


def deleted(task: TrainingTask) -> dict[str, Any]:
    """What listeners get when the task has gone, and its events with it."""
    return {
        "type": EventKind.DELETED.value,
        "task_id": task.id,
        "seq": task.last_seq + 1,
        "attempt": task.attempt,
        "status": task.status,
        "progress": task.progress,
        "stage": task.stage,
        "message": "deleted",
        "timestamp": instant(timezone.now()),
        "data": {},
    }


def snapshot(task: TrainingTask) -> dict[str, Any]:
    """The whole task as one message, standing for every event up to its `seq`."""
    return {
        "type": "snapshot",
        "task_id": task.id,
        "seq": task.last_seq,
        "attempt": task.attempt,
        "status": task.status,
        "progress": task.progress,
        "stage": task.stage,
        "message": task.message,
        "timestamp": instant(task.completed_at or task.started_at or task.created_at),
        "data": {"task": task_to_wire(task)},
    }


def task_to_wire(task: TrainingTask) -> dict[str, Any]:
    """The task as clients see it, on HTTP and on the socket alike."""
    return {
        "id": task.id,
        "name": task.name,
        "tags": task.tags,
        "owner": task.owner.get_username(),
        "status": task.status,
        "stage": task.stage,
        "progress": task.progress,
        "message": task.message,
        "dataset": task.dataset,
        "dataset_version": task.dataset_version,
        "model": task.model,
        "config": task.config,
        "posted": task.posted,
        "warnings": task.warnings,
        "result": task.result,
        "error": task.error,
        "error_code": task.error_code,
        "queue": task.queue,
        "needs": task.needs,
        "priority": task.get_priority_display(),
        "threads": task.threads,
        "timeout_s": task.timeout_s,
        "worker": task.worker,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "retry_of": task.retry_of_id,
        "cancel_requested_at": instant(task.cancel_requested_at),
        "finish_requested_at": instant(task.finish_requested_at),
        "pinned": task.pinned,
        "last_seq": task.last_seq,
        "created_at": instant(task.created_at),
        "started_at": instant(task.started_at),
        "completed_at": instant(task.completed_at),
    }


def instant(at: datetime | None) -> str | None:
    """ISO 8601 in UTC, as it goes over the wire."""
    return at.isoformat().replace("+00:00", "Z") if at else None

"""THE transitions: every change of a task is one conditional update and its event.

Each function makes one `UPDATE … WHERE <guard>` and looks at its row count, in one transaction
with the event. Never read, decide, save: two processes would both decide. Nothing else in the
code base writes a task's status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import DateTimeField, Expression, ExpressionWrapper, F, Q, Value
from django.db.models.functions import Greatest, Now

from . import events, tracing
from .errors import AlreadyFinished, Fenced, NotFinished, NotFitting, NotFound, Pinned
from .models import HEADLINES, LogChunk, MetricPoint, TaskTag, TrainingTask
from .sanitise import clean, clean_text
from .states import EventKind, RequeueReason, Stage, Status

BELOW_DONE = 99.9
"""The most that an unfinished task may show: 100.0 means completed."""

_CLAIM_LOOK = 20


@dataclass(frozen=True)
class Orders:
    """What people have asked of a running task."""

    cancel: bool
    finish: bool


@dataclass(frozen=True)
class News:
    """What a training has told since the last report; None: as before.

    progress: percent of the whole task; points: (name, step, value, at);
    log: text that follows what was reported before; stages: (stage, message) entered, in order.
    """

    progress: float | None = None
    message: str | None = None
    detail: Mapping[str, Any] | None = None
    stages: tuple[tuple[Stage, str], ...] = ()
    points: tuple[tuple[str, int, float | None, datetime], ...] = ()
    log: str = ""
    log_offset: int = field(default=0)


# ── A task comes into being ─────────────────────────────────────────────────────────────


def create(task: TrainingTask) -> TrainingTask:
    """Write a pending task with its tags and event 1."""
    with transaction.atomic():
        task.status, task.last_seq = Status.PENDING, 1
        task.save(force_insert=True)
        TaskTag.objects.bulk_create(
            TaskTag(task=task, name=name) for name in dict.fromkeys(task.tags)
        )
        # So that its worker's log lines can name the request too.
        events.record(task, (EventKind.CREATED, tracing.known("request_id")))
    return task


# ── A leader and its task ───────────────────────────────────────────────────────────────


def claim_next(queue: str, *, extras: Iterable[str], worker: str) -> TrainingTask | None:
    """Make the best pending task of the queue this worker's: by priority, then by age.

    Returns None if there is nothing that the worker's extras can run.
    """
    pending = TrainingTask.objects.filter(
        status=Status.PENDING, queue=queue, needs__in=["", *extras]
    ).order_by("priority", "created_at", "id")
    while candidates := list(pending.values_list("id", flat=True)[:_CLAIM_LOOK]):
        for task_id in candidates:
            if task := _claim(task_id, worker=worker):
                return task
    return None


def _claim(task_id: str, *, worker: str) -> TrainingTask | None:
    return _move(
        task_id,
        Q(status=Status.PENDING),
        EventKind.STARTED,
        {
            "status": Status.RUNNING,
            "stage": Stage.DATA,
            "attempt": F("attempt") + 1,
            "worker": worker,
            "progress": 0.0,
            "message": f"started on {worker}",
            "started_at": Now(),
            "lease_until": _lease_end(),
        },
        data={"worker": worker},
    )


def renew(task_id: str, *, attempt: int) -> Orders:
    """Prolong the attempt's lease and tell what people have asked for meanwhile.

    Raises: Fenced, if the task is not running under this attempt any more.
    """
    if not _held(task_id, attempt).update(lease_until=_lease_end()):
        raise Fenced(f"{task_id} is not running as attempt {attempt} any more")
    return look(task_id, attempt=attempt)


def look(task_id: str, *, attempt: int) -> Orders:
    """Tell what people have asked of the running attempt. Raises: Fenced."""
    row = _held(task_id, attempt).values_list("cancel_requested_at", "finish_requested_at")
    flags = row.first()
    if flags is None:
        raise Fenced(f"{task_id} is not running as attempt {attempt} any more")
    return Orders(cancel=flags[0] is not None, finish=flags[1] is not None)


def report(task_id: str, news: News, *, attempt: int) -> None:
    """Write what a training has told: state, curve points, log, and their events.

    At most one `progress`, one `metric` and one `log` event per report, however much was
    gathered. Raises: Fenced.
    """
    kinds = _kinds_of(news)
    if not kinds:
        return
    with transaction.atomic():
        changes: dict[str, Any] = {"last_seq": F("last_seq") + len(kinds)}
        if news.progress is not None:
            percent = min(max(news.progress, 0.0), BELOW_DONE)
            changes["progress"] = Greatest(F("progress"), Value(percent))
        if news.stages:
            changes["stage"] = news.stages[-1][0]
        if news.message is not None:
            changes["message"] = clean_text(news.message, limit=500)
        if not _held(task_id, attempt).update(**changes):
            raise Fenced(f"{task_id} is not running as attempt {attempt} any more")
        task = TrainingTask.objects.get(pk=task_id)
        _keep_points(task, news)
        _keep_log(task, news)
        events.record(task, *kinds)


def _kinds_of(news: News) -> list[tuple[EventKind, dict[str, Any]]]:
    kinds: list[tuple[EventKind, dict[str, Any]]] = [
        (EventKind.STAGE, {"stage": stage, "message": message}) for stage, message in news.stages
    ]
    if news.progress is not None or (news.message is not None and not news.stages):
        kinds.append((EventKind.PROGRESS, dict(news.detail or {})))
    if news.points:
        points = [
            {"name": name, "step": step, "value": value, "at": events.instant(at)}
            for name, step, value, at in news.points
        ]
        kinds.append((EventKind.METRIC, {"points": points}))
    if news.log:
        size = len(news.log.encode())
        data = {"offset": news.log_offset, "size": size, "text": news.log}
        kinds.append((EventKind.LOG, data))
    return kinds


def _keep_points(task: TrainingTask, news: News) -> None:
    MetricPoint.objects.bulk_create(
        (
            MetricPoint(
                task=task,
                attempt=task.attempt,
                name=clean_text(name, limit=100),
                step=step,
                value=clean(value),
                at=at,
            )
            for name, step, value, at in news.points
        ),
        # A model may tell a round twice; the first word stands.
        ignore_conflicts=True,
    )


def _keep_log(task: TrainingTask, news: News) -> None:
    if news.log:
        chunk = LogChunk(
            task=task,
            attempt=task.attempt,
            offset=news.log_offset,
            size=len(news.log.encode()),
            text=news.log,
        )
        # A report whose commit was not answered comes a second time, with what followed it.
        LogChunk.objects.bulk_create(
            [chunk],
            update_conflicts=True,
            unique_fields=["task", "attempt", "offset"],
            update_fields=["size", "text"],
        )


# ── Ends, told by the leader ────────────────────────────────────────────────────────────


def complete(task_id: str, *, attempt: int, result: Mapping[str, Any]) -> TrainingTask:
    """The training ran to its end. Raises: Fenced."""
    told = clean(dict(result))
    metrics = told.get("metrics", {})
    changes = {
        "status": Status.COMPLETED,
        "stage": Stage.SAVE,
        "progress": 100.0,
        "message": "completed",
        "result": told,
        "completed_at": Now(),
        "lease_until": None,
        **{name: metrics[name] for name in HEADLINES if metrics.get(name) is not None},
    }
    data = {"metrics": metrics}
    return _ended(task_id, attempt, EventKind.COMPLETED, changes, data=data)


def fail(task_id: str, *, attempt: int, code: str, error: str) -> TrainingTask:
    """The running attempt can't be finished, and another would not help. Raises: Fenced."""
    data = {"error_code": code, "error": clean_text(error)}
    return _ended(task_id, attempt, EventKind.FAILED, _failure(code, error), data=data)


def cancel_running(task_id: str, *, attempt: int) -> TrainingTask:
    """The leader has stopped the training because somebody asked for it. Raises: Fenced."""
    return _ended(task_id, attempt, EventKind.CANCELLED, _cancellation())


def requeue(task_id: str, *, attempt: int, reason: RequeueReason) -> TrainingTask:
    """The leader gives the task back: its worker stops, or its engine host was lost.

    With no attempt left, or a cancel asked for, the task ends instead. Raises: Fenced.
    """
    held = Q(status=Status.RUNNING, attempt=attempt)
    task = _give_back(task_id, held, reason)
    if task is None:
        raise Fenced(f"{task_id} is not running as attempt {attempt} any more")
    return task


def expire(task_id: str, *, attempt: int, lease_until: datetime | None) -> TrainingTask | None:
    """The leader is gone: its lease is over. None if it is not, or somebody else acted."""
    over = Q(
        status=Status.RUNNING,
        attempt=attempt,
        lease_until=lease_until,
        lease_until__lt=Now(),
    )
    return _give_back(task_id, over, RequeueReason.WORKER_LOST)


def _give_back(task_id: str, held: Q, reason: RequeueReason) -> TrainingTask | None:
    """Cancelled if that was asked, else pending again, else failed: the first that fits."""
    cancelled = _move(
        task_id,
        held & Q(cancel_requested_at__isnull=False),
        EventKind.CANCELLED,
        _cancellation(),
    )
    if cancelled:
        return cancelled
    counts = reason != RequeueReason.SHUTDOWN
    allowed = Q(losses__lt=F("max_attempts") - 1) if counts else Q()
    again = {
        "status": Status.PENDING,
        "stage": Stage.QUEUED,
        "worker": "",
        "message": _WHY[reason],
        "lease_until": None,
        "finish_requested_at": None,
        "losses": F("losses") + (1 if counts else 0),
    }
    requeued = _move(
        task_id,
        held & allowed & Q(cancel_requested_at__isnull=True),
        EventKind.REQUEUED,
        again,
        data={"reason": reason},
    )
    if requeued or not counts:
        return requeued
    error = f"{_WHY[reason]}; no attempt is left"
    data = {"error_code": reason, "error": error}
    return _move(task_id, held, EventKind.FAILED, _failure(reason, error), data=data)


_WHY = {
    RequeueReason.WORKER_LOST: "the worker stopped answering",
    RequeueReason.HOST_LOST: "the engine host of the worker died",
    RequeueReason.SHUTDOWN: "the worker was shut down in order",
}


# ── What people ask for ─────────────────────────────────────────────────────────────────


def request_cancel(task_id: str) -> TrainingTask:
    """Cancel a pending task at once; ask a running one's leader to stop it.

    Asked again: the same answer. Raises: NotFound, AlreadyFinished.
    """
    waiting = Q(status=Status.PENDING)
    if task := _move(task_id, waiting, EventKind.CANCELLED, _cancellation()):
        return task
    running = Q(status=Status.RUNNING)
    asked = {"cancel_requested_at": Now()}
    unasked = running & Q(cancel_requested_at__isnull=True)
    if task := _move(task_id, unasked, EventKind.CANCEL_REQUESTED, asked):
        return task
    task = _get(task_id)
    if task.is_final:
        raise AlreadyFinished(f"{task_id} is {task.status} already")
    # Between the two updates it may have been requeued: then it is pending, and asked again.
    return task if task.cancel_requested_at else request_cancel(task_id)


def request_finish(task_id: str) -> TrainingTask:
    """Ask the leader to end the fit now, keep the best so far and go on with the records.

    While data are loaded: the fit will end after its first step. A wish is for one attempt.
    Asked again: the same answer. Raises: NotFound, AlreadyFinished, NotFitting.
    """
    fitting = Q(status=Status.RUNNING, stage__in=[Stage.DATA, Stage.FIT])
    asked = {"finish_requested_at": Now()}
    unasked = fitting & Q(finish_requested_at__isnull=True, cancel_requested_at__isnull=True)
    if task := _move(task_id, unasked, EventKind.FINISH_REQUESTED, asked):
        return task
    task = _get(task_id)
    if task.is_final:
        raise AlreadyFinished(f"{task_id} is {task.status} already")
    if task.finish_requested_at:
        return task
    if task.cancel_requested_at:
        raise NotFitting(f"{task_id} is being cancelled: nothing of it is kept")
    raise NotFitting(f"{task_id} is {task.status}, stage {task.stage}: no fit to finish early")


def pin(task_id: str, *, pinned: bool) -> None:
    """Keep a task from cleaning and deletion, or let it go again."""
    TrainingTask.objects.filter(pk=task_id).update(pinned=pinned)


def note_export(task_id: str, *, run_id: str) -> None:
    """Add to a completed task's result under which MLflow run it was sent on; no event."""
    with transaction.atomic():
        task = _get(task_id, lock=True)
        task.result["mlflow_run_id"] = run_id
        task.save(update_fields=["result"])


def delete(task_id: str) -> TrainingTask:
    """Remove a final task's rows and tell its listeners; files are the caller's to remove.

    Raises: NotFound, NotFinished, Pinned.
    """
    with transaction.atomic():
        task = _get(task_id, lock=True)
        if task.pinned:
            raise Pinned(f"{task_id} is pinned; unpin it first")
        if not task.is_final:
            raise NotFinished(f"{task_id} is {task.status}; cancel it first")
        events.announce([events.deleted(task)], owner_id=task.owner_id)
        TrainingTask.objects.filter(pk=task_id).delete()
    return task


# ── Common to all moves ─────────────────────────────────────────────────────────────────


def _move(
    task_id: str,
    guard: Q,
    kind: EventKind,
    changes: Mapping[str, Any],
    *,
    data: Mapping[str, Any] | None = None,
) -> TrainingTask | None:
    """One guarded update and its event; None if the guard did not hold."""
    with transaction.atomic():
        rows = TrainingTask.objects.filter(guard, pk=task_id)
        if not rows.update(last_seq=F("last_seq") + 1, **changes):
            return None
        task = TrainingTask.objects.select_related("owner").get(pk=task_id)
        events.record(task, (kind, data))
    return task


def _ended(
    task_id: str,
    attempt: int,
    kind: EventKind,
    changes: Mapping[str, Any],
    *,
    data: Mapping[str, Any] | None = None,
) -> TrainingTask:
    guard = Q(status=Status.RUNNING, attempt=attempt)
    task = _move(task_id, guard, kind, changes, data=data)
    if task is None:
        raise Fenced(f"{task_id} is not running as attempt {attempt} any more")
    return task


def _failure(code: str, error: str) -> dict[str, Any]:
    return {
        "status": Status.FAILED,
        "error_code": code,
        "error": clean_text(error),
        "message": "failed",
        "completed_at": Now(),
        "lease_until": None,
    }


def _cancellation() -> dict[str, Any]:
    return {
        "status": Status.CANCELLED,
        "message": "cancelled",
        "completed_at": Now(),
        "lease_until": None,
    }


def _held(task_id: str, attempt: int) -> Any:
    return TrainingTask.objects.filter(pk=task_id, status=Status.RUNNING, attempt=attempt)


def _get(task_id: str, *, lock: bool = False) -> TrainingTask:
    rows = TrainingTask.objects.all()
    if lock:
        rows = rows.select_for_update()
    try:
        return rows.get(pk=task_id)
    except TrainingTask.DoesNotExist:
        raise NotFound(f"there is no task {task_id}") from None


def _lease_end() -> Expression:
    """The end of a lease that starts now, by the database's clock."""
    return ExpressionWrapper(Now() + Value(_lease()), output_field=DateTimeField())


def _lease() -> timedelta:
    lease: timedelta = settings.LEASE
    return lease

"""Statuses, stages and event kinds, and who may become what.

pending ──▶ running ──▶ completed
   │  ▲        ├──────▶ failed
   │  └────────┤        (requeued: worker or host lost, or an orderly shutdown)
   │           └──────▶ cancelled
   ├──────────────────▶ cancelled
   └──────────────────▶ failed
"""

from django.db import models


class Status(models.TextChoices):
    """The only five. A wish (cancel, finish) is a flag beside the status, never a status."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
OPEN = frozenset({Status.PENDING, Status.RUNNING})

MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.PENDING}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Stage(models.TextChoices):
    """Where a task is now."""

    QUEUED = "queued"
    DATA = "data"
    FIT = "fit"
    PREDICT = "predict"
    EVALUATE = "evaluate"
    BACKTEST = "backtest"
    SAVE = "save"


class EventKind(models.TextChoices):
    """What an event says. Kinds named like a final status are written once per task."""

    CREATED = "created"
    STARTED = "started"
    STAGE = "stage"
    PROGRESS = "progress"
    METRIC = "metric"
    LOG = "log"
    CANCEL_REQUESTED = "cancel_requested"
    FINISH_REQUESTED = "finish_requested"
    REQUEUED = "requeued"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"


FINAL_KINDS = frozenset({EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED})


class Priority(models.IntegerChoices):
    """Smaller goes first."""

    HIGH = 0, "high"
    NORMAL = 1, "normal"
    LOW = 2, "low"


class RequeueReason(models.TextChoices):
    """Why a running task went back to pending; `shutdown` uses up no attempt."""

    WORKER_LOST = "worker_lost"
    HOST_LOST = "host_lost"
    SHUTDOWN = "shutdown"


class ColumnState(models.TextChoices):
    """A column of features is being made by a running task, or lies in the store."""

    MAKING = "making"
    READY = "ready"

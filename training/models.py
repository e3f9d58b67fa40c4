"""The rows: tasks, their events, logs and curves; datasets; workers.

What may happen to a task is in `lifecycle.py`; nothing here writes a status.
"""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from .states import FINAL, FINAL_KINDS, ColumnState, EventKind, Priority, Stage, Status

HEADLINES = (
    "ic",
    "icir",
    "rank_ic",
    "rank_icir",
    "annualized_return",
    "information_ratio",
    "max_drawdown",
)
"""Metrics of the result that are columns too, so that lists can be ordered by them."""


def new_task_id() -> str:
    """An id that is never given twice."""
    return f"task-{uuid.uuid4()}"


class TaskQuerySet(models.QuerySet["TrainingTask"]):
    """Tasks, and who may see them."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "TaskQuerySet":
        """The owner sees the owner's, staff sees all, everyone else nothing."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        if getattr(user, "is_staff", False):
            return self
        return self.filter(owner_id=user.pk)


class TrainingTask(models.Model):
    """One workflow that somebody asked for, and what has become of it.

    Instants are aware UTC and come from the database's clock. `attempt` counts the claims and
    fences late writers; `losses` counts the attempts that were lost to infrastructure.
    """

    id = models.CharField(primary_key=True, max_length=41, default=new_task_id, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="training_tasks"
    )
    name = models.CharField(max_length=200, blank=True)
    tags = models.JSONField(default=list)
    dataset = models.CharField(max_length=64)
    dataset_version = models.CharField(max_length=64)
    model = models.CharField(max_length=64)
    test_from = models.DateField(null=True, blank=True)
    test_to = models.DateField(null=True, blank=True)
    posted = models.TextField()
    config = models.JSONField()
    warnings = models.JSONField(default=list)
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries"
    )

    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    stage = models.CharField(max_length=9, choices=Stage.choices, default=Stage.QUEUED)
    progress = models.FloatField(default=0.0)
    message = models.TextField(blank=True)
    result = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    error_code = models.CharField(max_length=40, blank=True)

    queue = models.CharField(max_length=20)
    needs = models.CharField(max_length=20, blank=True)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    threads = models.PositiveSmallIntegerField(default=1)
    timeout_s = models.PositiveIntegerField(default=21_600)
    worker = models.CharField(max_length=100, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=2)
    losses = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    finish_requested_at = models.DateTimeField(null=True, blank=True)
    pinned = models.BooleanField(default=False)
    last_seq = models.PositiveIntegerField(default=0)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    ic = models.FloatField(null=True, blank=True)
    icir = models.FloatField(null=True, blank=True)
    rank_ic = models.FloatField(null=True, blank=True)
    rank_icir = models.FloatField(null=True, blank=True)
    annualized_return = models.FloatField(null=True, blank=True)
    information_ratio = models.FloatField(null=True, blank=True)
    max_drawdown = models.FloatField(null=True, blank=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(name="task_status_known", condition=Q(status__in=Status.values)),
            models.CheckConstraint(
                name="task_final_has_its_time",
                condition=Q(status__in=sorted(FINAL), completed_at__isnull=False)
                | (~Q(status__in=sorted(FINAL)) & Q(completed_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_running_has_a_lease",
                condition=~Q(status=Status.RUNNING) | Q(lease_until__isnull=False),
            ),
            models.CheckConstraint(
                name="task_progress_in_range",
                condition=Q(progress__gte=0.0, progress__lte=100.0),
            ),
            models.CheckConstraint(
                name="task_losses_bounded", condition=Q(losses__lte=F("max_attempts"))
            ),
        ]
        indexes = [
            models.Index(
                name="task_next_pending",
                fields=["queue", "priority", "created_at", "id"],
                condition=Q(status=Status.PENDING),
            ),
            models.Index(
                name="task_leases", fields=["lease_until"], condition=Q(status=Status.RUNNING)
            ),
            # With the name, so that a part of it is looked for here and not in every row.
            models.Index(name="task_newest_named", fields=["-created_at", "-id", "name"]),
            models.Index(name="task_newest_of_owner", fields=["owner", "-created_at", "-id"]),
            models.Index(
                name="task_standing",
                fields=["dataset", "dataset_version", "test_from", "test_to", "information_ratio"],
                condition=Q(status=Status.COMPLETED),
            ),
            models.Index(name="task_by_status", fields=["status", "-created_at"]),
            models.Index(name="task_newest_of_model", fields=["model", "-created_at", "-id"]),
            models.Index(name="task_newest_of_dataset", fields=["dataset", "-created_at", "-id"]),
        ]

    def __str__(self) -> str:
        return self.name or self.id

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


class TaskTag(models.Model):
    """A task's tag as a row, so that lists can be filtered by it."""

    task = models.ForeignKey(TrainingTask, on_delete=models.CASCADE, related_name="tag_rows")
    name = models.CharField(max_length=50)

    class Meta:
        constraints = [models.UniqueConstraint(name="tag_once_per_task", fields=["name", "task"])]

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A caller's key for one submission: the same key by the same user answers the same task."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=128)
    request_hash = models.CharField(max_length=64)
    task = models.ForeignKey(TrainingTask, on_delete=models.CASCADE)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(name="key_once_per_owner", fields=["owner", "key"])]

    def __str__(self) -> str:
        return self.key


class TaskEvent(models.Model):
    """What happened to a task, numbered 1, 2, 3 … in the order of the commits.

    Carries the task's public state as it was then, so that a page replaces what it is told.
    """

    task = models.ForeignKey(TrainingTask, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, choices=EventKind.choices)
    status = models.CharField(max_length=9, choices=Status.choices)
    stage = models.CharField(max_length=9, choices=Stage.choices)
    progress = models.FloatField()
    message = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(name="event_seq_once", fields=["task", "seq"]),
            models.UniqueConstraint(
                name="event_final_once",
                fields=["task"],
                condition=Q(kind__in=sorted(FINAL_KINDS)),
            ),
        ]
        indexes = [models.Index(name="event_by_time", fields=["at"])]

    def __str__(self) -> str:
        return f"{self.task_id} {self.seq} {self.kind}"


class LogChunk(models.Model):
    """A piece of a running attempt's log; at the end the log becomes an artifact.

    offset, size: bytes of the log's UTF-8 text.
    """

    task = models.ForeignKey(TrainingTask, on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    offset = models.PositiveBigIntegerField()
    size = models.PositiveIntegerField()
    text = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="log_offset_once", fields=["task", "attempt", "offset"])
        ]

    def __str__(self) -> str:
        return f"{self.task_id}/{self.attempt} at {self.offset}"


class MetricPoint(models.Model):
    """A point of a training curve; at the end the curves become an artifact.

    value: null where the training gave NaN or an infinity.
    """

    task = models.ForeignKey(TrainingTask, on_delete=models.CASCADE, related_name="points")
    attempt = models.PositiveIntegerField()
    name = models.CharField(max_length=100)
    step = models.PositiveIntegerField()
    value = models.FloatField(null=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="point_once", fields=["task", "attempt", "name", "step"])
        ]

    def __str__(self) -> str:
        return f"{self.name}[{self.step}] = {self.value}"


class Dataset(models.Model):
    """A market under its name; the row points at the current, immutable version.

    manifest: what the check of a workflow needs (calendar, instruments, fields), as
    `manifest.json` of the version's directory has it.
    """

    name = models.SlugField(primary_key=True, max_length=64)
    region = models.CharField(max_length=2)
    version = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64)
    rows = models.PositiveBigIntegerField()
    first_day = models.DateField()
    last_day = models.DateField()
    instrument_count = models.PositiveIntegerField()
    synthetic = models.BooleanField(default=False)
    manifest = models.JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.name} (synthetic)" if self.synthetic else self.name


class Preset(models.Model):
    """A workflow to start from, without what depends on the data; it belongs to the staff.

    workflow: YAML; `training.presets` fills in dates, market, benchmark and records.
    """

    name = models.SlugField(primary_key=True, max_length=64)
    title = models.CharField(max_length=100)
    description = models.CharField(max_length=300, blank=True)
    position = models.PositiveSmallIntegerField(
        default=1_000, help_text="presets are listed by it, then by name"
    )
    workflow = models.TextField(
        help_text="YAML: task.model and task.dataset, the rest is filled in where it is absent"
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.title


class Figure(models.Model):
    """What a worker has computed over finished tasks, kept under what was asked.

    value: null until computed.
    """

    key = models.CharField(primary_key=True, max_length=64)
    kind = models.CharField(max_length=20)
    asked = models.JSONField()
    value = models.JSONField(null=True)
    error = models.TextField(blank=True)
    asked_at = models.DateTimeField(db_default=Now())
    computed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.key[:8]}"


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers, and which of them are there."""

    def alive(self) -> "WorkerQuerySet":
        """Those that were seen lately, by the database's clock."""
        return self.filter(seen_at__gte=Now() - settings.WORKER_SILENCE)

    def able(self, needs: str, *, queue: str) -> "list[Worker]":
        """The live ones of the queue that have what a task needs."""
        there = self.alive().filter(draining=False, queue=queue)
        return [one for one in there if one.has(needs)]


class Worker(models.Model):
    """A worker process as it last told of itself.

    extras: the optional libraries it can import (xgboost, catboost, torch, gpu).
    used_bytes: memory of all its processes when it was last seen; memory_bytes: what it may use.
    """

    name = models.CharField(primary_key=True, max_length=100)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    queue = models.CharField(max_length=20)
    cores = models.PositiveSmallIntegerField()
    memory_bytes = models.PositiveBigIntegerField()
    used_bytes = models.PositiveBigIntegerField(default=0, db_default=0)
    extras = models.JSONField(default=list)
    versions = models.JSONField(default=dict)
    draining = models.BooleanField(default=False)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    objects = WorkerQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def has(self, needs: str) -> bool:
        return not needs or needs in self.extras


class Export(models.Model):
    """A finished result on its way to an MLflow tracking server.

    run_id: MLflow's, once there; next_at: not tried again before it.
    """

    task = models.OneToOneField(
        TrainingTask, on_delete=models.CASCADE, primary_key=True, related_name="export"
    )
    run_id = models.CharField(max_length=64, blank=True)
    tries = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    next_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.task_id} → {self.run_id or 'waiting'}"


class FeatureColumn(models.Model):
    """A column of features in the shared store, or the claim of the task that is making it.

    key: hash of all that its values depend on. A claim holds for as long as the attempt of its
    task runs and renews its own lease. checksum: of the file, by the leader that put it there.
    """

    key = models.CharField(primary_key=True, max_length=64)
    state = models.CharField(max_length=6, choices=ColumnState.choices, default=ColumnState.MAKING)
    made_by = models.ForeignKey(
        TrainingTask, null=True, on_delete=models.SET_NULL, related_name="feature_columns"
    )
    made_attempt = models.PositiveIntegerField()
    bytes = models.PositiveBigIntegerField(default=0)
    checksum = models.CharField(max_length=64, blank=True)
    made_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="column_ready_has_a_checksum",
                condition=Q(state=ColumnState.MAKING)
                | (Q(state=ColumnState.READY) & ~Q(checksum="")),
            )
        ]
        indexes = [
            models.Index(
                name="column_least_used",
                fields=["last_used_at"],
                condition=Q(state=ColumnState.READY),
            )
        ]

    def __str__(self) -> str:
        return f"{self.key[:12]} {self.state}"


class FeatureTotal(models.Model):
    """A figure of the shared store that only grows, over all tasks there ever were."""

    name = models.CharField(primary_key=True, max_length=32)
    value = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"


__all__ = [
    "HEADLINES",
    "Dataset",
    "Export",
    "Figure",
    "FeatureColumn",
    "FeatureTotal",
    "IdempotencyKey",
    "LogChunk",
    "MetricPoint",
    "Preset",
    "TaskEvent",
    "TaskTag",
    "TrainingTask",
    "Worker",
]

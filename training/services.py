"""What a person can ask for: submit, cancel, finish early, retry, pin, delete; of a worker: drain.

Each checks who asks, calls one transition of `lifecycle` where a task changes, and does what lies
outside the database (rings, files) after the commit.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from . import archive, crew, figures, lifecycle, preflight, standings, tracing
from .errors import IdempotencyConflict, InvalidConfig, NotAllowed, NotFinished, NotFound
from .models import IdempotencyKey, TrainingTask, Worker
from .states import Priority, Status
from .work import queue
from .workflow import Workflow

log = logging.getLogger(__name__)

KEY_LIVES = timedelta(hours=24)
"""How long an Idempotency-Key answers with its first task."""


@dataclass(frozen=True)
class Submission:
    """What came of a submission: the task, and whether this call made it."""

    task: TrainingTask
    created: bool


def submit(
    body: bytes,
    *,
    content_type: str,
    owner: AbstractBaseUser,
    idempotency_key: str | None = None,
) -> Submission:
    """Make a task of a workflow, once per idempotency key.

    Raises: InvalidConfig, TooLarge, IdempotencyConflict.
    """
    request_hash = hashlib.sha256(body).hexdigest()
    if idempotency_key and (first := _first_answer(owner, idempotency_key, request_hash)):
        return Submission(first, created=False)
    verdict = preflight.check(body, content_type=content_type)
    if verdict.workflow is None:
        raise InvalidConfig(verdict.faults)
    try:
        with transaction.atomic():
            task = lifecycle.create(_task_of(verdict.workflow, verdict, owner=owner))
            if idempotency_key:
                _keep_key(owner, idempotency_key, request_hash, task)
    except IntegrityError:
        # The same key came twice at once; the other call has made the task.
        again = _first_answer(owner, idempotency_key or "", request_hash)
        if again is None:
            raise
        return Submission(again, created=False)
    # The line that has both ids: from a request to its task, and on to the worker's lines.
    with tracing.about(task_id=task.id):
        log.info("submitted to queue %s", task.queue)
        queue.ring(task.queue)
    return Submission(task, created=True)


def retry(task_id: str, *, user: AbstractBaseUser) -> TrainingTask:
    """Make a new task of a final one's config, checked anew: data and workers may have changed.

    Raises: NotFound, NotFinished, InvalidConfig.
    """
    old = visible(task_id, user=user)
    if not old.is_final:
        raise NotFinished(f"{task_id} is {old.status}; cancel it first")
    verdict = preflight.check_again(old.config)
    if verdict.workflow is None:
        raise InvalidConfig(verdict.faults)
    task = lifecycle.create(
        TrainingTask(
            owner=old.owner,
            retry_of=old,
            **_settled(verdict.workflow, verdict),
            **{name: getattr(old, name) for name in _CARRIED_OVER},
        )
    )
    queue.ring(task.queue)
    return task


_CARRIED_OVER = (
    "name",
    "tags",
    "dataset",
    "model",
    "test_from",
    "test_to",
    "posted",
    "config",
    "priority",
    "threads",
    "timeout_s",
    "max_attempts",
)


def cancel(task_id: str, *, user: AbstractBaseUser) -> TrainingTask:
    """Cancel a task, or ask its leader to. Raises: NotFound, AlreadyFinished."""
    visible(task_id, user=user)
    return lifecycle.request_cancel(task_id)


def finish(task_id: str, *, user: AbstractBaseUser) -> TrainingTask:
    """Ask for the fit to end now, the best kept. Raises: NotFound, AlreadyFinished, NotFitting."""
    visible(task_id, user=user)
    return lifecycle.request_finish(task_id)


def pin(task_id: str, *, user: AbstractBaseUser, pinned: bool = True) -> None:
    """Keep a task from cleaning and deletion, or let it go again. Raises: NotFound."""
    visible(task_id, user=user)
    lifecycle.pin(task_id, pinned=pinned)


def delete(task_id: str, *, user: AbstractBaseUser) -> None:
    """Remove a final task with its artifacts. Raises: NotFound, NotFinished, Pinned."""
    visible(task_id, user=user)
    task = lifecycle.delete(task_id)
    # The id was made by the server, so it is safe as a name; the rows are gone already,
    # so what a failure leaves behind is only space, and `maintain` clears that.
    try:
        archive.remove(task.id)
    except OSError as error:
        log.warning("%s: its files are left: %s", task.id, error)


def visible(task_id: str, *, user: AbstractBaseUser) -> TrainingTask:
    """The task, if the user may see it. Raises: NotFound, also where it is not theirs."""
    task = TrainingTask.objects.visible_to(user).select_related("owner").filter(pk=task_id)
    if found := task.first():
        return found
    raise NotFound(f"there is no task {task_id}")


def drain(worker_name: str, *, user: AbstractBaseUser, draining: bool = True) -> Worker:
    """Let a worker end what it runs and take nothing more; or let it work again.

    Holds until it is resumed, or stops in order. Raises: NotFound, NotAllowed.
    """
    if not getattr(user, "is_staff", False):
        raise NotAllowed("Workers are drained and resumed by the staff")
    worker = crew.member(worker_name, user).worker
    Worker.objects.filter(pk=worker.pk).update(draining=draining)
    worker.draining = draining
    if not draining:
        # Its queue's rings may have been heard while it did not listen.
        queue.ring(worker.queue)
    return worker


def visible_each(task_ids: Iterable[str], *, user: AbstractBaseUser) -> list[TrainingTask]:
    """The tasks in the order of their ids, each once. Raises: NotFound, if one is not theirs."""
    wanted = list(dict.fromkeys(task_ids))
    mine = TrainingTask.objects.visible_to(user).select_related("owner").defer("posted")
    found = mine.in_bulk(wanted)
    for task_id in wanted:
        if task_id not in found:
            raise NotFound(f"there is no task {task_id}")
    return [found[task_id] for task_id in wanted]


def correlation(tasks: Sequence[TrainingTask]) -> figures.Answer | None:
    """How alike their predictions are, asked of a worker once; None of fewer than two completed."""
    completed = [task for task in tasks if task.status == Status.COMPLETED]
    if len(completed) < 2:
        return None
    answer = figures.correlation(completed)
    if answer.ring:
        queue.ring_for_figure(answer.key)
    return answer


# ── Parts of a submission ───────────────────────────────────────────────────────────────


def _task_of(
    wanted: Workflow, verdict: preflight.Verdict, *, owner: AbstractBaseUser
) -> TrainingTask:
    test_from, test_to = standings.test_period(wanted.config)
    return TrainingTask(
        owner_id=owner.pk,
        name=wanted.name,
        tags=list(wanted.tags),
        dataset=wanted.dataset,
        model=wanted.model,
        test_from=test_from,
        test_to=test_to,
        posted=wanted.posted,
        config=wanted.config,
        priority=Priority[wanted.priority.upper()],
        threads=wanted.threads,
        timeout_s=wanted.timeout_s,
        max_attempts=wanted.max_attempts,
        **_settled(wanted, verdict),
    )


def _settled(wanted: Workflow, verdict: preflight.Verdict) -> dict[str, Any]:
    """The columns that the check settles, of a first task and of a retry."""
    return {
        "dataset_version": verdict.dataset_version,
        "warnings": [warning.as_dict() for warning in verdict.warnings],
        "queue": preflight.queue_of(wanted.needs),
        "needs": wanted.needs,
    }


def _first_answer(owner: AbstractBaseUser, key: str, request_hash: str) -> TrainingTask | None:
    """The task that this key has made in the last 24 hours. Raises: IdempotencyConflict."""
    known = (
        IdempotencyKey.objects.filter(owner_id=owner.pk, key=key, created_at__gt=Now() - KEY_LIVES)
        .select_related("task__owner")
        .first()
    )
    if known is None:
        return None
    if known.request_hash != request_hash:
        raise IdempotencyConflict(
            "This Idempotency-Key came before with another body; use a new key"
        )
    return known.task


def _keep_key(owner: AbstractBaseUser, key: str, request_hash: str, task: TrainingTask) -> None:
    old = IdempotencyKey.objects.filter(
        owner_id=owner.pk, key=key, created_at__lte=Now() - KEY_LIVES
    )
    old.delete()
    IdempotencyKey.objects.create(owner_id=owner.pk, key=key, request_hash=request_hash, task=task)

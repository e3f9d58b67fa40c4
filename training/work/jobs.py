"""The one job: take the next pending task and lead it. Here leader and engine are put together."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from training import archive, datasets, lifecycle, runner, tracing
from training.engine import handle, keeper, verdict
from training.ledger import insist
from training.models import TrainingTask
from training.models import Worker as WorkerRow

log = logging.getLogger(__name__)


START_WITHIN_S = 120.0
"""A host that is new imports Qlib first: 3 s, and far more on a machine that has too much to do."""


@dataclass(frozen=True)
class Post:
    """Where this process works; set by the worker before it forks."""

    worker: str
    queue: str
    extras: tuple[str, ...]
    host: keeper.EngineHost
    memory_bytes: int


# RQ calls the job with what Redis says; what this process is, only its parent can tell it.
post: Post | None = None


@dataclass
class _Stop:
    """A plain flag: a second signal could find an Event's lock taken by the first."""

    asked: bool = False


_stop = _Stop()


def stop(*_: Any) -> None:
    """The worker is to stop in order: the leader gives its task back."""
    _stop.asked = True


def run_next(queue: str) -> None:
    """Lead the best pending task of this worker's queue, if there is one."""
    if post is None or queue != post.queue:
        log.warning("a ring for queue %r came to the wrong process", queue)
        return
    if _stop.asked or WorkerRow.objects.filter(name=post.worker, draining=True).exists():
        return
    task = lifecycle.claim_next(queue, extras=post.extras, worker=post.worker)
    if task is None:
        return
    tracing.stamp_process(task_id=task.id, attempt=str(task.attempt), **_request_of(task))
    log.info("leads a task of queue %s", queue)
    try:
        runner.lead(
            task,
            engine=_engine(task, at=post),
            scratch=settings.SCRATCH_DIR / f"{task.id}-{task.attempt}",
            stop_asked=lambda: _stop.asked,
        )
    finally:
        connection.close()


def _engine(task: TrainingTask, *, at: Post) -> runner.Engine:
    limits = verdict.Limits(memory_bytes=at.memory_bytes, wall_s=task.timeout_s)
    return runner.Engine(
        start=partial(_start, task, at=at, limits=limits),
        judge=partial(verdict.classify, limits=limits),
        memory_bytes=at.memory_bytes,
    )


def _start(
    task: TrainingTask,
    scratch: Path,
    is_wanted: Callable[[], bool],
    *,
    at: Post,
    limits: verdict.Limits,
) -> runner.Training:
    """Ask the host for a training. Raises: runner.HostLost, OSError, ValueError."""
    try:
        return handle.Training.start(
            socket_path=at.host.socket_path,
            host_pidfd=at.host.pidfd,
            job=_job(task, at=at),
            scratch_dir=scratch / archive.HOME,
            log_path=scratch / "log.raw",
            limits=limits,
            start_timeout_s=START_WITHIN_S,
            is_wanted=is_wanted,
            readable=[_store()],
        )
    except (handle.HostLost, handle.HostBusy) as error:
        raise runner.HostLost(str(error)) from error


def _store() -> Path:
    """The folder of shared features. A training can be allowed only to read what is there."""
    store: Path = settings.FEATURES_DIR
    with suppress(OSError):
        # Where it can't be made, the desk says so when there is something to keep.
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
    return store


def _job(task: TrainingTask, *, at: Post) -> dict[str, Any]:
    """What the training is told; nothing in it is a secret."""
    path = datasets.directory(task.dataset, task.dataset_version)
    if not path.is_dir():
        raise FileNotFoundError(
            f"the data of {task.dataset} ({task.dataset_version}) is not on this worker"
        )
    # Of this very version, which may not be the current one; and no database is asked for it.
    told = datasets.manifest(task.dataset, task.dataset_version)
    return {
        "task_id": task.id,
        "attempt": task.attempt,
        "config": task.config,
        "dataset": {
            "name": task.dataset,
            "path": str(path),
            "region": told["region"],
            "fingerprint": told["fingerprint"],
            "first_day": told["first_day"],
            "last_day": told["last_day"],
            "instruments": len(told["instruments"]),
        },
        "evaluator": settings.EVALUATOR,
        "shares_features": True,
        "threads": max(1, min(task.threads, settings.TRAINING_THREADS)),
        "memory_bytes": at.memory_bytes,
    }


def _request_of(task: TrainingTask) -> dict[str, str]:
    """The id of the request that made the task; nothing, where it came otherwise or is pruned."""
    first = insist(lambda: task.events.filter(seq=1).values_list("data", flat=True).first())
    return {"request_id": first["request_id"]} if first and "request_id" in first else {}

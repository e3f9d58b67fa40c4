"""The RQ worker: hears a ring, forks a work-horse that leads a task, survives everything.

It holds the engine host and tells the `Worker` row that it is there. Nothing of ours depends on
RQ for correctness: a ring is only a reason to look into the database.
"""

import fcntl
import gc
import logging
import math
import os
import shutil
import signal
import socket
import time
import uuid
from contextlib import suppress
from typing import Any

import django_rq
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.models.functions import Now
from redis.exceptions import RedisError, ResponseError
from rq.executions import Execution
from rq.worker import Worker as RqWorker

from training import desk, lifecycle
from training.engine import walls
from training.engine.keeper import EngineHost
from training.errors import Fenced
from training.models import TrainingTask
from training.models import Worker as WorkerRow
from training.states import RequeueReason, Status

from . import jobs, machine, spare
from .queue import FIGURES

log = logging.getLogger(__name__)

SEEN_EVERY_S = 5.0
DRAINING_LOOK_S = 1.0
REFUSED_S = 1.0
QUIET_TTL_S = 20
"""RQ blocks for 15 s less than this on an empty queue: 5 s, our heart beat."""


class TrainingWorker(RqWorker):
    """RQ's worker without its traps; see the notes at each method."""

    # RQ would be deaf for up to a minute after a long outage.
    max_connection_wait_time = 4.0

    def __init__(self, *args: Any, slot: str, trains: str, **kwargs: Any) -> None:
        """slot: the lasting name; RQ wants another for each process. trains: the tasks' queue."""
        self.slot = slot
        self.trains = trains
        kwargs["name"] = f"{slot}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        kwargs.setdefault("job_monitoring_interval", int(SEEN_EVERY_S))
        kwargs.setdefault("maintenance_interval", 60)
        kwargs.setdefault("log_job_description", False)
        kwargs["worker_ttl"] = QUIET_TTL_S
        super().__init__(*args, **kwargs)
        self._seen_at = 0.0
        self._host: EngineHost | None = None
        self._spare: spare.Spare | None = None

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Start the engine host, then listen until told to stop."""
        take_slot(self.slot)
        # Other processes of this user must not read secrets out of our memory.
        walls.forbid_inspection()
        threads = settings.TRAINING_THREADS
        self._host = EngineHost.start(runtime_dir=settings.RUNTIME_DIR, cores=threads)
        jobs.post = jobs.Post(
            worker=self.slot,
            queue=self.trains,
            extras=machine.extras(),
            host=self._host,
            memory_bytes=machine.memory_share(),
        )
        self._tell_birth()
        clear_scratch()
        _with_database(lambda: desk.sweep(settings.FEATURES_DIR))
        try:
            return bool(super().work(*args, **kwargs))
        finally:
            self._dismiss_spare()
            self._host.stop()
            _with_database(lambda: WorkerRow.objects.filter(name=self.slot).delete())

    # ── RQ's commands: we use none, and their thread would be forked along ────────────

    def subscribe(self) -> None:
        """Not listened to: stopping goes through the database."""

    def unsubscribe(self) -> None:
        """See `subscribe`."""

    # ── Redis may go away; a running task goes on ─────────────────────────────────────

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """RQ's heart beat and ours: host alive, row seen."""
        self._tell_life()
        try:
            super().heartbeat(*args, **kwargs)
        except RedisError as error:
            log.warning("heart beat skipped: %s", error)

    def dequeue_job_and_maintain_ttl(self, *args: Any, **kwargs: Any) -> Any:
        """RQ would quit when Redis refuses: it is full, or a replica that may only be read."""
        while True:
            self._prepare_spare()
            try:
                return super().dequeue_job_and_maintain_ttl(*args, **kwargs)
            except ResponseError as error:
                log.warning("redis refuses: %s; listening again", error)
                time.sleep(REFUSED_S)

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        """RQ would quit and leave its horse alone when Redis is away."""
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            log.warning("heart beat skipped: %s", error)

    def set_state(self, state: Any, pipeline: Any = None) -> None:
        """RQ would quit when Redis is away; the state is for its dashboard only."""
        try:
            super().set_state(state, pipeline)
        except RedisError:
            self._state = state

    def check_for_suspension(self, burst: bool) -> None:
        """Listen to nobody while draining, so that rings wait for other workers.

        We drain through the database; RQ would ask Redis, and quit when it is away.
        """
        while not burst and not self._stop_requested and self._is_draining():
            self._tell_life()
            time.sleep(DRAINING_LOOK_S)

    def _is_draining(self) -> bool:
        """False also where the database is away: then no task can be taken either."""
        row = WorkerRow.objects.filter(name=self.slot, draining=True)
        return bool(_with_database(row.exists))

    def run_maintenance_tasks(self) -> None:
        """RQ would quit when Redis is away between two jobs."""
        try:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except RedisError as error:
            log.warning("maintenance skipped: %s", error)

    def set_shutdown_requested_date(self) -> None:
        """The date is for RQ's dashboard only, and an error would leave who waits for the horse."""
        with suppress(RedisError):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]

    def teardown(self) -> None:
        """An orderly end is one also when Redis is away."""
        try:
            super().teardown()  # type: ignore[no-untyped-call]
        except RedisError as error:
            log.warning("left without telling Redis: %s", error)

    def execute_job(self, job: Any, queue: Any) -> None:
        """Redis errors before the fork or after the horse's end lose a ring, nothing else."""
        try:
            super().execute_job(job, queue)
        except RedisError as error:
            log.warning("ring %s: %s", job.id, error)

    # ── The work-horse ────────────────────────────────────────────────────────────────

    def fork_work_horse(self, job: Any, queue: Any) -> None:
        """Set the spare to work; where there is none, fork as RQ does."""
        self._start_horse(job, queue)
        if self._stop_requested:
            # It came when there was no horse yet to pass it on to.
            self._signal_horse(signal.SIGTERM)

    def _start_horse(self, job: Any, queue: Any) -> None:
        # Not at the next heart beat: the task whose host has died may be the next one here.
        self._ensure_host()
        execution: Any = self.execution
        told = {"job": job.id, "queue": queue.name, "execution": execution.id}
        ready, self._spare = self._spare, None
        if ready is not None and ready.tell(told):
            self._horse_pid = ready.pid
            return
        self._before_fork()
        with spare.stops_held():
            super().fork_work_horse(job, queue)

    def _before_fork(self) -> None:
        """No database connection may be shared by two processes."""
        connections.close_all()
        # A collection in the fork would copy the pages that it shares with us.
        gc.freeze()

    def _prepare_spare(self) -> None:
        """Have the next work-horse ready before its job comes."""
        if self._spare is not None:
            return
        self._before_fork()
        try:
            with spare.stops_held():
                self._spare = spare.fork(_warm_up, self._work_as_told, jobs.stop)
        except OSError as error:
            log.warning("no spare work-horse: %s", error)

    def _dismiss_spare(self) -> None:
        """It knows only the engine host that was there when it was forked."""
        known, self._spare = self._spare, None
        if known is not None:
            known.dismiss()

    def _work_as_told(self, told: spare.Told) -> None:
        """The spare becomes the horse of this job, as RQ's `SpawnWorker` does it."""
        source: dict[str, Any] = {"connection": self.connection, "serializer": self.serializer}
        job = self.job_class.fetch(told["job"], **source)
        job.redis_server_version = self.get_redis_server_version()  # type: ignore[no-untyped-call]
        queue = self.queue_class(told["queue"], job_class=self.job_class, **source)
        self.execution = Execution(told["execution"], job.id, self.connection, self.name)
        if not connection.is_usable():
            # It was opened when the spare was forked, which may be days ago.
            connection.close()
        self.main_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        """The horse gives its task back on SIGTERM; RQ would let it die."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, jobs.stop)
        spare.let_stops_in()

    def handle_warm_shutdown_request(self) -> None:
        """Told to stop: the horse gives its task back to the queue."""
        log.info("worker %s: told to stop", self.slot)
        self._signal_horse(signal.SIGTERM)

    def kill_horse(self, sig: int = signal.SIGKILL) -> None:
        """RQ 3.0 would kill our own group where there is no horse."""
        self._signal_horse(sig)

    def _signal_horse(self, sig: int) -> None:
        if self.horse_pid:
            # It may have ended meanwhile, which is what we want.
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, sig)

    # ── What the database knows of us ─────────────────────────────────────────────────

    def _tell_birth(self) -> None:
        row = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queue": self.trains,
            "cores": settings.TRAINING_THREADS,
            "memory_bytes": machine.memory_share(),
            "extras": list(machine.extras()),
            "versions": machine.versions(),
            "used_bytes": machine.used_bytes(),
            "started_at": Now(),
            "seen_at": Now(),
        }
        _with_database(lambda: WorkerRow.objects.update_or_create(name=self.slot, defaults=row))
        self._seen_at = time.monotonic()

    def _tell_life(self) -> None:
        if self._is_horse or time.monotonic() - self._seen_at < SEEN_EVERY_S - 1:
            return
        self._seen_at = time.monotonic()
        self._ensure_host()
        row = WorkerRow.objects.filter(name=self.slot)
        if _with_database(lambda: row.update(seen_at=Now(), used_bytes=machine.used_bytes())) == 0:
            self._tell_birth()

    def _ensure_host(self) -> None:
        if self._host and self._host.ensure_alive():
            log.warning("the engine host had died; a new one was started")
            self._dismiss_spare()


def run(queue: str, *, slot: str) -> None:
    """Work on the queue's tasks until SIGTERM or SIGINT, as the worker of that lasting name."""
    for folder in (settings.RUNTIME_DIR, settings.SCRATCH_DIR, settings.ARTIFACTS_DIR):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    worker = TrainingWorker(
        # A figure takes seconds: it goes before the next training, which takes minutes.
        [django_rq.get_queue(FIGURES), django_rq.get_queue(queue)],
        slot=slot,
        trains=queue,
        connection=django_rq.get_connection(queue),
        serializer="rq.serializers.JSONSerializer",
        job_class=settings.RQ["JOB_CLASS"],
    )
    worker.work(logging_level="INFO")


def _warm_up() -> None:
    """Ask what a horse asks first, to no effect; the connection stays open for what follows."""
    try:
        lifecycle.claim_next("", extras=(), worker="")
        with suppress(Fenced):
            lifecycle.requeue("", attempt=0, reason=RequeueReason.SHUTDOWN)
        TrainingTask.objects.select_related("owner").filter(pk="").first()
    except (DatabaseError, InterfaceError):
        # The horse will see for itself.
        connection.close()


def take_slot(slot: str) -> None:
    """Hold the slot's lock until this process and its work-horse have ended.

    A worker that was killed may have left a leader behind that goes on: its successor waits,
    so that the machine never runs more trainings than it has workers.
    """
    # Kept open on purpose: the lock belongs to the descriptor, which the horse inherits.
    lock = os.open(settings.RUNTIME_DIR / f"worker-{slot}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    row = WorkerRow.objects.filter(name=slot)
    said_at = -math.inf
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - said_at >= SEEN_EVERY_S:
                log.warning("worker %s: its predecessor still works; waiting", slot)
                # The worker is there: it trains what its predecessor has begun.
                _with_database(lambda: row.update(seen_at=Now()))
                said_at = time.monotonic()
            time.sleep(0.5)


def _with_database(write: Any) -> Any:
    """Do a short write of the parent's; None where the database is away. Leaves no connection."""
    try:
        return write()
    except (DatabaseError, InterfaceError) as error:
        log.warning("database: %s", error)
        return None
    finally:
        connection.close()


def clear_scratch() -> None:
    """Remove what attempts that have ended without their leader left behind."""
    # Looked at before the rows: what another worker begins meanwhile is not on the list.
    there = list(settings.SCRATCH_DIR.iterdir()) if settings.SCRATCH_DIR.is_dir() else []
    running = _with_database(
        lambda: {
            f"{task_id}-{attempt}"
            for task_id, attempt in TrainingTask.objects.filter(status=Status.RUNNING).values_list(
                "id", "attempt"
            )
        }
    )
    if running is None:
        return
    for left in there:
        if left.name not in running:
            shutil.rmtree(left, ignore_errors=True)

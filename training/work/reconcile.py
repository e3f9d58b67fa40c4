"""Finds the truth again where a ring or a leader was lost. Safe to run twice at once.

Every move it makes is a guarded update, so a second reconciler, or a leader that comes back,
changes nothing.
"""

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Count
from django.db.models.functions import Now
from redis.exceptions import RedisError

from training import lifecycle
from training.models import TrainingTask, Worker
from training.states import Status

from . import queue

log = logging.getLogger(__name__)

SLOW_S = 1.0
"""A write that took longer was kept from the database; leaders' renewals may have been too."""

RING_AT_MOST = 100
"""Rings in one pass: more wait in the database, where they lose nothing."""


def run(*, stopped: Callable[[], bool]) -> None:
    """Reconcile every few seconds until stopped.

    After a start, after the database was away or did not take a write at once, and after this
    process slept, one whole lease passes before anything is expired: leaders could not renew
    meanwhile, and must get the time to.
    """
    patience = Patience()
    while not stopped():
        try:
            if _write_waits():
                log.warning("the database lets writes wait: leaders get a lease's time to renew")
                patience.begin()
            once(expire=patience.is_over())
        except (DatabaseError, InterfaceError) as error:
            log.warning("database: %s", error)
            patience.begin()
        finally:
            connection.close()
        if _sleep(settings.RECONCILE_EVERY_S, stopped) > settings.LEASE.total_seconds() / 2:
            log.warning("this process was asleep: leaders get a lease's time to renew")
            patience.begin()


class Patience:
    """The wait of one lease after a start, an outage or a sleep.

    By the clock that goes on while the machine is suspended, as the database's does.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._until = _clock() + settings.LEASE.total_seconds()

    def is_over(self) -> bool:
        return _clock() >= self._until


def _write_waits() -> bool:
    """Whether the database takes its time for a write, of nothing: locked, or busy, or frozen."""
    begun = _clock()
    Worker.objects.filter(name="").update(pid=0)
    return _clock() - begun > SLOW_S


def _clock() -> float:
    """Seconds since the machine's start."""
    # Only Linux has it; elsewhere a suspended machine's sleep is not seen.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def once(*, expire: bool = True) -> None:
    """One pass: leases that are over, then rings that are missing."""
    if expire:
        expire_leases()
    ring_again()


def expire_leases() -> list[TrainingTask]:
    """Act for every leader that is gone; the tasks that were moved."""
    over = TrainingTask.objects.filter(status=Status.RUNNING, lease_until__lt=Now())
    moved = []
    for seen in over.only("id", "attempt", "lease_until"):
        task = lifecycle.expire(seen.id, attempt=seen.attempt, lease_until=seen.lease_until)
        if task:
            log.warning(
                "%s: attempt %s lost its worker: now %s", task.id, seen.attempt, task.status
            )
            moved.append(task)
    return moved


def ring_again() -> int:
    """Ring for pending tasks that have no ring; how many rings were missing."""
    missing = 0
    pending = TrainingTask.objects.filter(status=Status.PENDING)
    for name, count in pending.values_list("queue").annotate(Count("id")).order_by():
        try:
            waiting = queue.rung(name)
        except (RedisError, OSError) as error:
            log.warning("redis: %s", error)
            return missing
        for _ in range(min(count, RING_AT_MOST) - waiting):
            # A Redis that hangs would keep us from expired leases for a minute of tries.
            if not queue.ring(name):
                return missing
            missing += 1
    return missing


def _sleep(seconds: float, stopped: Callable[[], bool]) -> float:
    """Sleep; by how many seconds it became more than that."""
    end = _clock() + seconds
    while not stopped() and _clock() < end:
        time.sleep(0.1)
    return _clock() - end

"""What a leader tells the database and hears from it, in a thread of its own.

A database that is slow or gone must not stop the leader from watching its training, and what
the training has told meanwhile must not be lost: it is gathered here and written when the
database is back. The thread ends only when it is told to, or that the task is not its own any
more.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from . import lifecycle
from .errors import Fenced
from .lifecycle import News, Orders
from .states import Stage

log = logging.getLogger(__name__)

T = TypeVar("T")

OUTAGES = (OperationalError, InterfaceError)
"""What goes away by itself; any other database error would come back for ever."""

REPORT_EVERY_S = 0.3
"""At most three events each: fewer than ten messages a second and task."""

LOOK_EVERY_S = 0.5
RETRY_S = 1.0
LOG_PIECE = 16_000
"""Characters of log in one report; an event's text must stay below the sanitiser's limit."""

Point = tuple[str, int, float | None, datetime]


@dataclass
class _Gathered:
    """What was told since the last report."""

    progress: float | None = None
    message: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    stages: list[tuple[Stage, str]] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    log: str = ""


class Ledger(threading.Thread):
    """Reports for one attempt, renews its lease and keeps its newest orders."""

    def __init__(self, task_id: str, *, attempt: int) -> None:
        super().__init__(name=f"ledger of {task_id}", daemon=True)
        self.task_id = task_id
        self.attempt = attempt
        self.orders = Orders(cancel=False, finish=False)
        self.fenced = False
        self._gathered = _Gathered()
        self._log_offset = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._renew_at = 0.0
        self._look_at = 0.0

    # ── told by the leader ──────────────────────────────────────────────────────────

    def stage(self, stage: Stage, *, message: str, progress: float) -> None:
        """The training entered a stage; progress: percent of the whole."""
        with self._lock:
            self._gathered.stages.append((stage, message))
            self._gathered.message, self._gathered.progress = message, progress
            self._gathered.detail = {}

    def progress(self, percent: float, *, message: str, detail: Mapping[str, Any]) -> None:
        """The newest progress; an older one that was not written yet is forgotten."""
        with self._lock:
            gathered = self._gathered
            gathered.progress, gathered.message, gathered.detail = percent, message, detail

    def points(self, points: list[Point]) -> None:
        """Points of the training curves; none is forgotten."""
        with self._lock:
            self._gathered.points.extend(points)

    def log(self, text: str) -> None:
        """Text that follows what the log has so far."""
        with self._lock:
            self._gathered.log += text

    def close(self) -> None:
        """Write what is left, for as long as it takes, and end the thread."""
        self._closing.set()
        self.join()

    # ── the thread ──────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Report, renew and look until closed and empty, or fenced."""
        try:
            while not self.fenced and not (self._closing.is_set() and self._is_empty()):
                self._closing.wait(REPORT_EVERY_S)
                self._turn()
        finally:
            connection.close()

    def _turn(self) -> None:
        try:
            self._hear()
            self._write()
        except Fenced:
            self.fenced = True
        except OUTAGES as error:
            log.warning("%s: database: %s; will try again", self.task_id, error)
            forget_connection()
            time.sleep(RETRY_S)
        except DatabaseError:
            log.exception("%s: a report was refused and is dropped", self.task_id)

    def _hear(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            self.orders = lifecycle.renew(self.task_id, attempt=self.attempt)
            self._renew_at = now + settings.LEASE_RENEW_S
        elif now >= self._look_at:
            self.orders = lifecycle.look(self.task_id, attempt=self.attempt)
        else:
            return
        self._look_at = now + LOOK_EVERY_S

    def _write(self) -> None:
        with self._lock:
            gathered, self._gathered = self._gathered, _Gathered()
        news = self._news(gathered)
        try:
            lifecycle.report(self.task_id, news, attempt=self.attempt)
        except OUTAGES:
            self._put_back(gathered)
            raise
        self._log_offset += len(news.log.encode())
        if rest := gathered.log[len(news.log) :]:
            self._put_back(_Gathered(log=rest))

    def _news(self, gathered: _Gathered) -> News:
        return News(
            progress=gathered.progress,
            message=gathered.message,
            detail=gathered.detail,
            stages=tuple(gathered.stages),
            points=tuple(gathered.points),
            log=gathered.log[:LOG_PIECE],
            log_offset=self._log_offset,
        )

    def _put_back(self, older: _Gathered) -> None:
        """What could not be written comes before what was told meanwhile."""
        with self._lock:
            newer = self._gathered
            newer.stages[:0] = older.stages
            newer.points[:0] = older.points
            newer.log = older.log + newer.log
            if newer.progress is None:
                newer.progress, newer.detail = older.progress, older.detail
                newer.message = newer.message or older.message

    def _is_empty(self) -> bool:
        with self._lock:
            return self._gathered == _Gathered()


def insist(act: Callable[[], T]) -> T:
    """Do a write or read that the attempt can't go on without, however long the database stays
    away. Raises what is not an outage."""
    while True:
        try:
            return act()
        except OUTAGES as error:
            log.warning("database: %s; the task waits for it", error)
            forget_connection()
            time.sleep(RETRY_S)


def forget_connection() -> None:
    """Drop a connection that may be broken; closing it may fail for the same reason."""
    with suppress(*OUTAGES):
        connection.close()

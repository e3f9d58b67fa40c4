"""Leads one task: follows its training, passes orders on, keeps limits, records the end.

The leader never trains, so it is always there to tell the truth. It knows a training only by
the `Training` protocol: `work/jobs.py` puts leader and engine together.
"""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from . import archive, lifecycle
from .desk import Desk
from .errors import Fenced
from .ledger import Ledger, insist
from .models import TrainingTask
from .pace import Pace
from .runlog import RunLog
from .states import RequeueReason, Stage

log = logging.getLogger(__name__)

ABORT_GRACE_S = 0.5
"""What a training gets to end by itself before it is killed."""

WATCH_S = 0.1
MEMORY_EVERY_S = 0.15


class HostLost(Exception):
    """The engine host was gone, or went, before the training had started."""


class Training(Protocol):
    """A training process, as its leader sees it."""

    ended: dict[str, Any] | None
    host_lost: bool
    peak_memory_bytes: int

    def messages(self, timeout_s: float) -> list[dict[str, Any]]: ...
    def order(self, op: str) -> None: ...
    def tell(self, message: dict[str, Any]) -> None: ...
    def kill(self) -> None: ...
    def memory_bytes(self) -> int: ...
    def close(self) -> None: ...


class Outcome(Protocol):
    """How a training ended; kind: completed, failed, cancelled or host_lost."""

    @property
    def kind(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def error(self) -> str: ...


@dataclass(frozen=True)
class Engine:
    """How to start and to judge a training; limits are the leader's to keep.

    start: in a scratch folder, and asking meanwhile whether it is still wanted.
    """

    start: Callable[[Path, Callable[[], bool]], Training]
    judge: Callable[..., Outcome]
    memory_bytes: int


@dataclass
class Attempt:
    """One attempt of a task under its leader."""

    task: TrainingTask
    engine: Engine
    scratch: Path
    stop_asked: Callable[[], bool]
    ledger: Ledger
    desk: Desk
    runlog: RunLog
    pace: Pace
    points: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, Any] | None = None
    why_killed: str | None = None
    aborted_at: float | None = None
    peak_memory_bytes: int = 0
    finish_passed_on: bool = False


def lead(
    task: TrainingTask, *, engine: Engine, scratch: Path, stop_asked: Callable[[], bool]
) -> None:
    """Run the claimed attempt to its end and record it, whatever it is.

    stop_asked: whether the worker is to stop in order; the task then goes back to the queue.
    """
    try:
        runlog = _make_room(scratch)
    except OSError as problem:
        _refuse(task, problem)
        return
    ledger = Ledger(task.id, attempt=task.attempt)
    ledger.start()
    attempt = Attempt(
        task=task,
        engine=engine,
        scratch=scratch,
        stop_asked=stop_asked,
        ledger=ledger,
        desk=Desk(task, home=scratch / archive.HOME),
        runlog=runlog,
        pace=insist(lambda: Pace.of(task)),
    )
    try:
        _lead(attempt)
    except Fenced:
        log.warning("%s: attempt %s is not ours any more", task.id, task.attempt)
        if not insist(lambda: _is_recorded(task)):
            archive.discard(task)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make_room(scratch: Path) -> RunLog:
    """A place for the attempt, and its log there. Raises: OSError."""
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / archive.HOME).mkdir(parents=True, mode=0o700)
    return RunLog(scratch)


def _refuse(task: TrainingTask, problem: OSError) -> None:
    """There is no room to start in: another attempt here would fare no better."""
    code, error = archive.told(problem)
    log.error("%s: attempt %s could not start: %s", task.id, task.attempt, problem)
    # That somebody else has ended it meanwhile is an end too.
    with suppress(Fenced):
        insist(lambda: lifecycle.fail(task.id, attempt=task.attempt, code=code, error=error))


def _is_recorded(task: TrainingTask) -> bool:
    """Whether this attempt's end stands in the database: a commit may go unanswered."""
    row = TrainingTask.objects.filter(pk=task.pk, attempt=task.attempt).first()
    return row is not None and row.is_final


def _lead(attempt: Attempt) -> None:
    task = attempt.task
    _say(attempt, f"attempt {task.attempt} of {task.id} starts on {task.worker}")
    try:
        training = attempt.engine.start(attempt.scratch, lambda: _why_end(attempt) is None)
    except HostLost as error:
        if why := _why_end(attempt):
            attempt.why_killed = why
            _say(attempt, f"ended before the training had started: {why}")
            _record(attempt, "cancelled", "", "")
            return
        _say(attempt, f"the engine host did not start the training: {error}")
        _record(attempt, "host_lost", "host_lost", str(error))
        return
    except (OSError, ValueError) as error:
        _say(attempt, f"the training could not be started: {error}")
        _record(attempt, "failed", "not_started", f"The training could not start: {error}")
        return
    attempt.desk.open(training.tell)
    try:
        _follow(attempt, training)
    finally:
        training.close()
        attempt.desk.close(hurry=attempt.why_killed is not None)
    attempt.peak_memory_bytes = training.peak_memory_bytes
    outcome = attempt.engine.judge(
        final=attempt.final,
        ended=training.ended,
        killed_because=attempt.why_killed,
        peak_memory_bytes=training.peak_memory_bytes,
    )
    _say(attempt, _epitaph(training, outcome))
    _record(attempt, outcome.kind, outcome.code, outcome.error)


# ── While it runs ───────────────────────────────────────────────────────────────────────


def _follow(attempt: Attempt, training: Training) -> None:
    """Until the training has ended: hear it, pass orders on, keep the limits."""
    begun = time.monotonic()
    memory_at = 0.0
    while training.ended is None and not training.host_lost:
        for message in training.messages(WATCH_S):
            _hear(attempt, message)
        attempt.ledger.log(attempt.runlog.read())
        for line in attempt.desk.said():
            _say(attempt, line)
        _pass_orders(attempt, training)
        now = time.monotonic()
        if now - begun > attempt.task.timeout_s:
            _kill(attempt, training, "timed_out")
        if now >= memory_at:
            memory_at = now + MEMORY_EVERY_S
            if training.memory_bytes() > attempt.engine.memory_bytes:
                _kill(attempt, training, "out_of_memory")
    for message in training.messages(0):
        _hear(attempt, message)


def _why_end(attempt: Attempt) -> str | None:
    """Why the training is to end now, if it is."""
    if attempt.ledger.fenced:
        return "fenced"
    if attempt.ledger.orders.cancel:
        return "cancelled"
    return "shutdown" if attempt.stop_asked() else None


def _pass_orders(attempt: Attempt, training: Training) -> None:
    why = _why_end(attempt)
    if why == "fenced":
        _kill(attempt, training, why)
    elif why:
        _abort(attempt, training, why)
    elif attempt.ledger.orders.finish and not attempt.finish_passed_on:
        attempt.finish_passed_on = True
        _say(attempt, "asked to finish the fit now and to keep the best so far")
        training.order("finish")


def _abort(attempt: Attempt, training: Training, why: str) -> None:
    """Ask once, then kill when the grace is over."""
    now = time.monotonic()
    if attempt.aborted_at is None:
        attempt.aborted_at = now
        attempt.why_killed = attempt.why_killed or why
        _say(attempt, f"stopping the training: {why}")
        training.order("abort")
    elif now - attempt.aborted_at > ABORT_GRACE_S:
        training.kill()


def _kill(attempt: Attempt, training: Training, why: str) -> None:
    if attempt.why_killed is None:
        attempt.why_killed = why
        _say(attempt, f"killing the training: {why}")
    training.kill()


def _hear(attempt: Attempt, message: dict[str, Any]) -> None:
    kind = message.get("type")
    if kind == "stage":
        _enter(attempt, message)
    elif kind == "progress":
        _advance(attempt, message)
    elif kind == "metrics":
        _plot(attempt, message["points"])
    elif kind == "columns":
        attempt.desk.hear(message)
    elif kind in {"done", "failed"}:
        attempt.final = message


def _enter(attempt: Attempt, message: dict[str, Any]) -> None:
    stage = Stage(message["stage"])
    text = message.get("message") or stage.label
    percent = attempt.pace.enter(stage)
    attempt.ledger.stage(stage, message=text, progress=percent)
    _say(attempt, f"stage {stage}: {text}")


def _advance(attempt: Attempt, message: dict[str, Any]) -> None:
    done, total = message.get("done"), message.get("total")
    percent = attempt.pace.advance(done, total)
    detail = {name: message.get(name) for name in ("stage", "done", "total", "unit")}
    detail |= attempt.pace.left()
    attempt.ledger.progress(percent, message=message.get("message") or "", detail=detail)


def _plot(attempt: Attempt, points: list[dict[str, Any]]) -> None:
    attempt.points.extend(points)
    attempt.ledger.points(
        [
            (one["name"], one["step"], one["value"], datetime.fromisoformat(one["at"]))
            for one in points
        ]
    )


def _say(attempt: Attempt, text: str) -> None:
    """A line of the leader's own in the run's log."""
    attempt.ledger.log(attempt.runlog.add(text))


def _epitaph(training: Training, outcome: Outcome) -> str:
    ended = training.ended or {}
    how = f"signal {ended['signal']}" if ended.get("signal") else f"code {ended.get('code')}"
    if outcome.error:
        # It tells of the memory itself, where that matters.
        return f"the training ended with {how}: {outcome.kind} ({outcome.code}): {outcome.error}"
    peak = training.peak_memory_bytes / 1e6
    return f"the training ended with {how}, peak memory {peak:.0f} MB: {outcome.kind}"


# ── The end ─────────────────────────────────────────────────────────────────────────────


def _record(attempt: Attempt, kind: str, code: str, error: str) -> None:
    """Keep the files, write what is left to tell, then the end. Raises: Fenced."""
    task = attempt.task
    attempt.ledger.log(attempt.runlog.rest())
    try:
        kept = archive.keep(
            task, attempt.scratch, final=attempt.final, kind=kind, points=attempt.points
        )
    except archive.NotKept as problem:
        kind, code, error, kept = "failed", problem.code, problem.message, []
        attempt.ledger.log(attempt.runlog.add(f"the result could not be kept: {error}"))
    attempt.ledger.close()
    if attempt.ledger.fenced:
        raise Fenced(f"{task.id} is not running as attempt {task.attempt} any more")
    insist(lambda: _end(attempt, kind, code=code, error=error, artifacts=kept))
    if archive.holds(task):
        insist(lambda: archive.clear_rows(task))


def _end(
    attempt: Attempt, kind: str, *, code: str, error: str, artifacts: list[dict[str, Any]]
) -> None:
    task_id, number = attempt.task.id, attempt.task.attempt
    if kind == "completed":
        told = (attempt.final or {}).get("result", {})
        # What the next check of a workflow like this one learns from.
        peak = {"peak_memory_bytes": attempt.peak_memory_bytes}
        result = {**told, **peak, "artifacts": artifacts}
        if shared := attempt.desk.figures():
            result["features"] = shared
        lifecycle.complete(task_id, attempt=number, result=result)
    elif kind == "host_lost":
        lifecycle.requeue(task_id, attempt=number, reason=RequeueReason.HOST_LOST)
    elif attempt.why_killed == "shutdown":
        lifecycle.requeue(task_id, attempt=number, reason=RequeueReason.SHUTDOWN)
    elif kind == "cancelled":
        lifecycle.cancel_running(task_id, attempt=number)
    else:
        lifecycle.fail(task_id, attempt=number, code=code, error=error)

"""Where a task is: its lost attempts, its stages with their times, how long it still takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from training.models import TaskEvent, TrainingTask
from training.states import EventKind, Stage, Status

from .words import duration

START = "start"
SHOWN_START_S = 1.0
"""A shorter start is left out."""

STAGES = tuple(stage for stage in Stage if stage != Stage.QUEUED)

_LAST_STATES = {Status.RUNNING: "now", Status.FAILED: "broken", Status.CANCELLED: "stopped"}
"""What the newest stage of a task is that is neither pending nor completed."""


@dataclass(frozen=True)
class Step:
    """A stage as the timeline shows it. seconds: how long it took, or runs; None: unknown."""

    name: str
    state: str
    seconds: float | None
    since: datetime | None

    @property
    def is_left_out(self) -> bool:
        """A start is worth a word only where it took its time."""
        return self.name == START and (self.seconds or 0) < SHOWN_START_S


def steps(task: TrainingTask) -> Iterator[Step]:
    """The stages in their order, with what they took: of a completed task Qlib's own timings.

    Before them "start": until an engine is there that begins the first.
    """
    entered = _entered(task)
    timings = task.result.get("timings", {})
    end = task.completed_at or timezone.now()
    begins = list(entered.values())
    yield _start(task, begins[0] if begins else None, end)
    ends = dict(zip(entered, [*begins[1:], end], strict=False))
    for stage in STAGES:
        since = entered.get(stage)
        seconds = timings.get(stage)
        if seconds is None and since:
            seconds = (ends[stage] - since).total_seconds()
        yield Step(stage.value, _state(task, stage, is_entered=since is not None), seconds, since)


def _start(task: TrainingTask, first: datetime | None, end: datetime) -> Step:
    since = task.started_at
    state = "done" if first else _LAST_STATES.get(Status(task.status))
    if task.stage == Stage.QUEUED or since is None or state is None:
        return Step(START, "waiting", None, None)
    return Step(START, state, max(((first or end) - since).total_seconds(), 0), since)


def _entered(task: TrainingTask) -> dict[str, datetime]:
    """When the newest attempt entered each stage, in that order; nothing where it was lost."""
    if task.stage == Stage.QUEUED:
        return {}
    events = task.events.filter(attempt=task.attempt, kind=EventKind.STAGE).order_by("seq")
    # The event's column has the task's stage after the report; a report may enter several.
    told = events.values_list("data", "at")
    return {data["stage"]: at for data, at in told if data.get("stage") in STAGES}


def _state(task: TrainingTask, stage: Stage, *, is_entered: bool) -> str:
    if task.status == Status.COMPLETED:
        return "done" if is_entered or stage in task.result.get("timings", {}) else "skipped"
    if not is_entered:
        return "waiting"
    if stage != task.stage:
        return "done"
    return _LAST_STATES[Status(task.status)]


def lost(task: TrainingTask) -> list[TaskEvent]:
    """Of each attempt that was given back the event that says why, in their order."""
    if task.attempt < 2 and task.status != Status.PENDING:
        return []
    return list(task.events.filter(kind=EventKind.REQUEUED).order_by("seq"))


def left(task: TrainingTask) -> str:
    """What is left as the training last told: of all, or of its stage; "" where it is unknown."""
    if task.status != Status.RUNNING or task.cancel_requested_at:
        return ""
    newest = task.events.filter(attempt=task.attempt, kind=EventKind.PROGRESS).order_by("-seq")
    told: dict[str, Any] = newest.values_list("data", flat=True).first() or {}
    if told.get("stage") != task.stage:
        return ""
    if told.get("eta_s") is not None:
        return f"{duration(told['eta_s'])} left"
    # A stage may end before its last unit: a fit that gets no better stops early.
    here = told.get("stage_eta_s")
    return "" if here is None else f"up to {duration(here)} left in {task.stage}"

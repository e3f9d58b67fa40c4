"""How far a task is, in percent of the whole, and how long it still takes.

The share of each stage comes from the last completed task of the same dataset, model and
handler; without one from `PRIOR`, and then there is no estimate of the time: only what was
measured is told.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from .models import TrainingTask
from .states import Stage, Status

PRIOR: Mapping[Stage, float] = {
    Stage.DATA: 45.0,
    Stage.FIT: 40.0,
    Stage.PREDICT: 3.0,
    Stage.EVALUATE: 3.0,
    Stage.BACKTEST: 8.0,
    Stage.SAVE: 1.0,
}
"""Shares in percent, as seen with LightGBM on Alpha158; only used until there is history."""


@dataclass
class Pace:
    """Turns a stage's own counters into the task's percent; never goes down.

    seconds: what each stage took the last time; empty without history.
    """

    shares: Mapping[Stage, float]
    seconds: Mapping[Stage, float] = field(default_factory=dict)
    stage: Stage = Stage.DATA
    fraction: float = 0.0
    entered_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, task: TrainingTask) -> "Pace":
        """The pace of a task, from the last completed one like it."""
        seconds = _measured(task)
        total = sum(seconds.values())
        if not total:
            return cls(shares=PRIOR)
        shares = {stage: 100.0 * took / total for stage, took in seconds.items()}
        return cls(shares=shares, seconds=seconds)

    def enter(self, stage: Stage) -> float:
        """The percent at the start of the stage."""
        self.stage, self.fraction, self.entered_at = stage, 0.0, time.monotonic()
        return self.percent()

    def advance(self, done: int | None, total: int | None) -> float:
        """The percent after `done` of `total` units of the stage; unknown totals stand still."""
        if done is not None and total:
            self.fraction = max(self.fraction, min(done / total, 1.0))
        return self.percent()

    def percent(self) -> float:
        """0 to 100, of the whole task."""
        order = list(PRIOR)
        before = order[: order.index(self.stage)] if self.stage in order else []
        done = sum(self.shares.get(stage, 0.0) for stage in before)
        return done + self.fraction * self.shares.get(self.stage, 0.0)

    def eta_s(self) -> float | None:
        """Seconds left, from what the same stages took the last time; None without history."""
        if not self.seconds or self.stage not in PRIOR:
            return None
        order = list(PRIOR)
        after = order[order.index(self.stage) + 1 :]
        spent = time.monotonic() - self.entered_at
        here = max(self.seconds.get(self.stage, 0.0) - spent, 0.0)
        return round(here + sum(self.seconds.get(stage, 0.0) for stage in after), 1)


def _measured(task: TrainingTask) -> dict[Stage, float]:
    like = TrainingTask.objects.filter(
        status=Status.COMPLETED, dataset=task.dataset, model=task.model
    ).order_by("-created_at")
    for config, result in like.values_list("config", "result")[:5]:
        if _handler(config) == _handler(task.config):
            timings = result.get("timings", {})
            return {Stage(name): took for name, took in timings.items() if name in PRIOR}
    return {}


def _handler(config: dict[str, object]) -> object:
    """The handler's class name; None where the config has none."""
    value: object = config
    for key in ("task", "dataset", "kwargs", "handler", "class"):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value

"""How far a task is, in percent of the whole, and how long it still takes.

The share of each stage comes from the last completed task of the same dataset, model and
handler; without one from `PRIOR`. The time of a stage comes from its own pace, as soon as that
was watched for a while; the time of the stages after it from that task, and without one nothing
is said of them: only what was measured is told.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from .models import TrainingTask
from .states import Stage, Status
from .workflow import effort

PRIOR: Mapping[Stage, float] = {
    Stage.DATA: 45.0,
    Stage.FIT: 40.0,
    Stage.PREDICT: 3.0,
    Stage.EVALUATE: 3.0,
    Stage.BACKTEST: 8.0,
    Stage.SAVE: 1.0,
}
"""Shares in percent, as seen with LightGBM on Alpha158; only used until there is history."""

WATCHED_S, WATCHED_SHARE = 2.0, 0.02
"""A pace that was watched for less is a guess."""


@dataclass
class Pace:
    """Turns a stage's own counters into the task's percent; never goes down.

    seconds: what each stage took the last time; empty without history. same_effort: the fit was
    given as many rounds then, so it may end as early again.
    """

    shares: Mapping[Stage, float]
    seconds: Mapping[Stage, float] = field(default_factory=dict)
    same_effort: bool = False
    stage: Stage = Stage.DATA
    fraction: float = 0.0
    entered_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, task: TrainingTask) -> "Pace":
        """The pace of a task, from the last completed one like it."""
        seconds, same_effort = _measured(task)
        total = sum(seconds.values())
        if not total:
            return cls(shares=PRIOR)
        shares = {stage: 100.0 * took / total for stage, took in seconds.items()}
        return cls(shares=shares, seconds=seconds, same_effort=same_effort)

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

    def left(self) -> dict[str, float]:
        """Seconds left, as far as they are known: `stage_eta_s` of the stage, at most, for a fit
        that gets no better ends early; `eta_s` of all, where the stages after it were measured.
        """
        here = self._left_here() if self.stage in PRIOR else None
        if here is None:
            return {}
        told = {"stage_eta_s": round(here, 1)}
        if self.seconds:
            order = list(PRIOR)
            after = order[order.index(self.stage) + 1 :]
            whole = here + sum(self.seconds.get(stage, 0.0) for stage in after)
            told["eta_s"] = round(whole, 1)
        return told

    def _left_here(self) -> float | None:
        spent = time.monotonic() - self.entered_at
        as_before = self.seconds.get(self.stage, 0.0) - spent
        if spent < WATCHED_S or self.fraction < WATCHED_SHARE:
            usable = self.same_effort or self.stage != Stage.FIT
            return as_before if usable and as_before > 0 else None
        at_this_pace = spent * (1 - self.fraction) / self.fraction
        if self.stage == Stage.FIT and self.same_effort and as_before > 0:
            return min(at_this_pace, as_before)
        return at_this_pace


def _measured(task: TrainingTask) -> tuple[dict[Stage, float], bool]:
    """What each stage took the last time, and whether the fit had as many rounds."""
    like = TrainingTask.objects.filter(
        status=Status.COMPLETED, dataset=task.dataset, model=task.model
    ).order_by("-created_at")
    for config, result in like.values_list("config", "result")[:5]:
        if _handler(config) == _handler(task.config):
            timings = result.get("timings", {})
            seconds = {Stage(name): took for name, took in timings.items() if name in PRIOR}
            return seconds, effort(config) == effort(task.config)
    return {}, False


def _handler(config: dict[str, object]) -> object:
    """The handler's class name; None where the config has none."""
    value: object = config
    for key in ("task", "dataset", "kwargs", "handler", "class"):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value

"""How large a run will be: rows, columns, memory and time, before anything is loaded.

Memory and time are learned from finished runs of the same handler and model, where there are some
of about that size. Without one memory follows from what Qlib was measured to need, and nothing is
said of the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from training.catalogue import load
from training.workflow.columns import columns_of
from training.workflow.facts import MarketFacts, Workflow
from training.workflow.findings import Findings
from training.workflow.market_shapes import codes_loaded

_BASE_BYTES = 300 * 1024 * 1024
# Peak of the whole data stage, measured with Qlib 0.9.7 on 300 instruments × 1,500 days.
_BYTES_PER_ROW = {"Alpha158": 5_500, "Alpha360": 16_000}
_BYTES_PER_CELL = 40
LEARN_WITHIN = 4.0
"""A run teaches about others of up to so many times its rows: beyond, what does not grow with
the rows (libraries, the model) would be multiplied along."""
_STAGES_BY_ROWS = frozenset({"data", "fit", "predict"})
_ROUNDS = frozenset(
    ["num_boost_round", "early_stopping_round", "early_stopping_rounds", "num_models", "epochs"]
    + ["n_epochs", "pretrain_n_epochs", "early_stop", "max_steps", "iterations"]
)
"""What the models call how long they fit."""


@dataclass(frozen=True)
class Run:
    """What a finished run of the same handler and model needed.

    seconds: by stage. same_data: it read the same dataset, so that its times compare;
    same_effort: its fit was given as many rounds.
    """

    rows: int
    columns: int
    memory_bytes: int
    seconds: Mapping[str, float]
    same_data: bool
    same_effort: bool = True


@dataclass(frozen=True)
class Estimate:
    """rows: day × instrument, an upper bound; memory_bytes: the peak; None is unknown.

    seconds: by stage, empty without history; runs: how many finished ones memory comes from.
    """

    rows: int
    columns: int | None
    memory_bytes: int | None
    seconds: Mapping[str, float] = field(default_factory=dict)
    runs: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As the API shows it; the time only where there is history."""
        told: dict[str, Any] = {
            "rows": self.rows,
            "columns": self.columns,
            "memory_bytes": self.memory_bytes,
            "memory_learned_from": self.runs,
        }
        if self.seconds:
            told["seconds"] = round(sum(self.seconds.values()), 1)
            told["seconds_by_stage"] = dict(self.seconds)
        return told


def estimate(workflow: Workflow, facts: MarketFacts, runs: Sequence[Run] = ()) -> Estimate:
    """The size of the data that the workflow's handler loads, and what the run will need.

    runs: finished ones of the same handler and model, newest first.
    """
    handler = workflow.config["task"]["dataset"]["kwargs"]["handler"]
    rows = _rows(handler, facts)
    columns = columns_of(handler, load(), Findings())
    count = max(len(columns.for_fit), len(columns.for_predict)) if columns else None
    near = [run for run in runs if _teaches(run, rows, count)]
    return Estimate(
        rows=rows,
        columns=count,
        memory_bytes=_learned_bytes(near, rows) or _measured_bytes(handler, rows, count),
        seconds=_seconds([run for run in near if run.same_data and run.same_effort], rows),
        runs=len(near),
    )


def effort(config: Mapping[str, Any]) -> dict[str, Any]:
    """How long a workflow lets its model fit: its numbers of rounds, by their names.

    config: as a row has it, which may be no workflow at all.
    """
    kwargs = _inside(config, "task", "model", "kwargs")
    told = {name: kwargs[name] for name in _ROUNDS if name in kwargs}
    return {**told, "rounds": _inside(config, "platform").get("rounds")}


def _inside(value: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _rows(handler: dict[str, Any], facts: MarketFacts) -> int:
    kwargs = handler["kwargs"]
    return facts.rows(
        codes_loaded(handler, facts), kwargs.get("start_time"), kwargs.get("end_time")
    )


def _teaches(run: Run, rows: int, columns: int | None) -> bool:
    same_width = columns is None or run.columns == columns
    return same_width and run.rows > 0 and 1 / LEARN_WITHIN <= rows / run.rows <= LEARN_WITHIN


def _measured_bytes(handler: dict[str, Any], rows: int, columns: int | None) -> int | None:
    own = _BYTES_PER_ROW.get(handler["class"].removesuffix("vwap"))
    if own is None and columns is None:
        return None
    return _BASE_BYTES + rows * (own or (columns or 0) * _BYTES_PER_CELL)


def _learned_bytes(runs: Sequence[Run], rows: int) -> int | None:
    """What does not grow with the rows is taken as `_BASE_BYTES`, all else per row."""
    if not runs:
        return None
    per_row = median(max(run.memory_bytes - _BASE_BYTES, 0) / run.rows for run in runs)
    return int(min(_BASE_BYTES, min(run.memory_bytes for run in runs)) + rows * per_row)


def _seconds(runs: Sequence[Run], rows: int) -> dict[str, float]:
    stages = dict.fromkeys(name for run in runs for name in run.seconds)
    return {
        name: round(
            median(
                run.seconds[name] * (rows / run.rows if name in _STAGES_BY_ROWS else 1.0)
                for run in runs
                if name in run.seconds
            ),
            3,
        )
        for name in stages
    }

"""The report of a completed task: series for pictures, as the training's `report.json` has them.

Added here is what follows from them by adding up and counting: the table of months, the
distribution of the daily IC, fewer points on request. Returns are fractions (0.01 = 1 %) and are
added up, not compounded, as in Qlib's own risk analysis. What a training did not compute is absent.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import archive, basis
from .downsample import largest_triangles
from .errors import NotFinished, NotFound
from .models import TrainingTask
from .states import Status

FILE = "report.json"
BINS = 40
"""Of the histogram of the daily IC."""

_BY_DAY = ("portfolio", "holdings", "ic", "groups")
_NOT_BY_DAY = ("days", "by_month", "distribution")
_RECORDS = {
    "portfolio": ("PortAnaRecord", "MultiPassPortAnaRecord"),
    "ic": ("SigAnaRecord", "HFSignalRecord"),
    "groups": ("SignalRecord", "HFSignalRecord"),
}

# Qlib asks each booster for the kind that the booster itself has as its default.
_IMPORTANCE_UNITS = {
    "LGBModel": "splits",
    "HFLGBModel": "splits",
    "XGBModel": "splits",
    "DEnsembleModel": "splits, weighted by sub-model",
    "CatBoostModel": "share of the prediction's change, in percent",
}

Series = Sequence[float | None]


def of(task: TrainingTask, *, points: int | None = None) -> dict[str, Any]:
    """The report of a completed task; to be read only, since it is kept for the next reader.

    points: at most so many days of each block (or three of each series, if that is more), chosen
    so that all series keep their shape.
    Raises: NotFinished while the task is open; NotFound, if it left no report.
    """
    path = file_of(task)
    try:
        found = _prepared(str(path), points)
    except FileNotFoundError:
        raise NotFound(f"{task.id} is completed, but its report is not on this server") from None
    importance = found.get("feature_importance")
    unit = _IMPORTANCE_UNITS.get(task.model)
    if importance and unit:
        found = found | {"feature_importance": importance | {"unit": unit}}
    return {
        "task_id": task.id,
        "data": task.result.get("data", {}),
        "computed_by": _computed_by(task, found),
        "label_is_return": basis.label_is_return(task.config),
        **found,
    }


def file_of(task: TrainingTask) -> Path:
    """Where the report of a completed task lies. Raises: NotFinished, NotFound."""
    if not task.is_final:
        raise NotFinished(f"{task.id} is {task.status}; a report is made when it is completed")
    if task.status != Status.COMPLETED:
        raise NotFound(f"{task.id} is {task.status} and has no report")
    return archive.folder(task) / FILE


def version_of(task: TrainingTask) -> str:
    """A text that changes with the report: the hash of its file, else the attempt's name."""
    for one in task.result.get("artifacts", []):
        if one["path"] == FILE:
            return str(one["sha256"])
    return f"{task.id}-{task.attempt}"


def excess_returns(path: str) -> list[float]:
    """The excess return over the benchmark with cost, day by day; empty without a backtest.

    path: as `file_of` has it. Raises: FileNotFoundError.
    """
    portfolio = _read(path).get("portfolio")
    return _steps(portfolio["excess_with_cost"]) if portfolio else []


@lru_cache(maxsize=64)
def _prepared(path: str, points: int | None) -> dict[str, Any]:
    """The file with what follows from it. A final task's file never changes, so it is kept."""
    report = dict(_read(path))
    if "ic" in report:
        report["ic"] = report["ic"] | {"distribution": distribution(report["ic"])}
    if "portfolio" in report:
        report["monthly"] = months(report["portfolio"])
    for name in _BY_DAY:
        if name in report and points is not None:
            report[name] = thinned(report[name], points)
    return report


def _read(path: str) -> dict[str, Any]:
    """Raises: FileNotFoundError."""
    report: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return report


def _computed_by(task: TrainingTask, report: Mapping[str, Any]) -> dict[str, str]:
    """Which of the workflow's records each block comes from."""
    asked = task.config.get("task", {}).get("record", [])
    classes = [one.get("class") for one in (asked if isinstance(asked, list) else [asked])]
    return {
        block: next((name for name in names if name in classes), names[0])
        for block, names in _RECORDS.items()
        if block in report
    }


# ── What follows from the series ────────────────────────────────────────────────────────


def months(portfolio: Mapping[str, Any]) -> dict[str, Any]:
    """The returns of each month and year: sums of the days' returns."""
    names = ("return_with_cost", "benchmark", "excess_with_cost")
    sums = {name: _sums(portfolio["days"], portfolio[name], width=7) for name in names}
    years = {name: _sums(portfolio["days"], portfolio[name], width=4) for name in names}
    return {
        "months": list(sums[names[0]]),
        **{name: list(sums[name].values()) for name in names},
        "years": {"years": list(years[names[0]])}
        | {name: list(years[name].values()) for name in names},
    }


def _sums(days: Iterable[str], cumulative: Series, *, width: int) -> dict[str, float]:
    """The sum of the steps by the first `width` characters of their day."""
    sums: dict[str, list[float]] = {}
    for day, step in zip(days, _steps(cumulative), strict=True):
        sums.setdefault(day[:width], []).append(step)
    return {part: math.fsum(steps) for part, steps in sums.items()}


def _steps(cumulative: Series) -> list[float]:
    """The single days of a running sum; a day without a value adds nothing."""
    steps, before = [], 0.0
    for value in cumulative:
        steps.append(0.0 if value is None else value - before)
        before = before if value is None else value
    return steps


def distribution(ic: Mapping[str, Any]) -> dict[str, Any]:
    """How many days had an IC, and a rank IC, between each two neighbours of `edges`."""
    known = {name: [v for v in ic[name] if v is not None] for name in ("ic", "rank_ic")}
    everything = [value for values in known.values() for value in values]
    if not everything:
        return {"edges": [], "ic": [], "rank_ic": []}
    # The same bins on both sides of zero, so that a shift is seen.
    reach = max(max(abs(value) for value in everything), 1e-9)
    edges = [reach * (2 * number / BINS - 1) for number in range(BINS + 1)]
    return {"edges": edges} | {name: _counts(values, edges) for name, values in known.items()}


def _counts(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    counts = [0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for value in values:
        counts[min(max(int((value - edges[0]) / width), 0), len(counts) - 1)] += 1
    return counts


# ── Fewer points ────────────────────────────────────────────────────────────────────────


def thinned(block: Mapping[str, Any], points: int) -> dict[str, Any]:
    """The block with at most `points` of its days: each series chooses its share of them.

    block: `days`, and series of the same length, which may lie one dictionary deeper.
    """
    length = len(block["days"])
    series = list(_series_in(block, length))
    if length <= points or not series:
        return dict(block)
    share = max(points // len(series), 3)
    kept = sorted({index for one in series for index in _chosen(one, share)})
    return _map_series(block, length, lambda values: [values[index] for index in kept])


def _series_in(block: Mapping[str, Any], length: int) -> Iterable[Series]:
    for name, value in block.items():
        if name in _NOT_BY_DAY:
            continue
        if isinstance(value, Mapping):
            yield from _series_in(value, length)
        elif isinstance(value, list) and len(value) == length:
            yield value


def _chosen(values: Series, count: int) -> list[int]:
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    return [known[kept][0] for kept in largest_triangles(known, count)]


def _map_series(
    block: Mapping[str, Any], length: int, change: Callable[[Any], list[Any]]
) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in block.items():
        if name in _NOT_BY_DAY and name != "days":
            changed[name] = value
        elif isinstance(value, Mapping):
            changed[name] = _map_series(value, length, change)
        elif isinstance(value, list) and len(value) == length:
            changed[name] = change(value)
        else:
            changed[name] = value
    return changed

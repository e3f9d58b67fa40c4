"""Several tasks over each other: metrics, curves, and only what differs in their configs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import reports
from .errors import NotFinished, NotFound
from .models import TrainingTask

MORE_IS_BETTER = (
    "ic",
    "icir",
    "rank_ic",
    "rank_icir",
    "annualized_return",
    "information_ratio",
    "max_drawdown",
    "long_short_ann_return",
    "long_short_ann_sharpe",
    "long_avg_ann_return",
    "long_avg_ann_sharpe",
    "excess_return_mean",
)
"""Drawdowns are 0 or less: the highest is the mildest. The same with `_without_cost`."""
LESS_IS_BETTER = ("excess_return_std",)
CURVES = ("return_with_cost", "excess_with_cost", "drawdown_with_cost", "benchmark")
_OURS = ("platform.name", "platform.tags")
"""Labels: they differ always, and mean nothing to the result."""


def compare(tasks: Sequence[TrainingTask], *, points: int) -> dict[str, Any]:
    """What a comparison shows, but for the correlation of predictions, which a worker computes.

    points: days of each curve at most. Curves are of those tasks that have a backtest.
    """
    return {
        "tasks": [_short(task) for task in tasks],
        **side_by_side(tasks),
        "curves": [curve for task in tasks if (curve := _curve(task, points))],
    }


def side_by_side(tasks: Sequence[TrainingTask]) -> dict[str, Any]:
    """What the rows tell, without a look into files."""
    same_data = len({(task.dataset, task.dataset_version) for task in tasks}) == 1
    same_test = len({(task.test_from, task.test_to) for task in tasks}) == 1
    results = [task.result.get("metrics", {}) for task in tasks]
    return {
        "same_data": same_data,
        "same_test": same_test,
        "metrics": metrics(results, is_fair=same_data and same_test),
        "differences": differences([task.config for task in tasks]),
    }


def metrics(results: Sequence[Mapping[str, float]], *, is_fair: bool) -> list[dict[str, Any]]:
    """A row for each metric that any of them has; the headline ones first.

    is_fair: they are of the same data and test period; others have no best.
    """
    known = dict.fromkeys(name for one in results for name in one)
    first = [name for name in (*MORE_IS_BETTER, "turnover", *LESS_IS_BETTER) if name in known]
    names = [*first, *sorted(set(known) - set(first))]
    rows = ((name, [one.get(name) for one in results]) for name in names)
    return [
        {"name": n, "values": values, "best": best(n, values) if is_fair else []}
        for n, values in rows
    ]


def best(name: str, values: Sequence[float | None]) -> list[int]:
    """The places of the best values; none where no direction is better, or all are the same."""
    bare = name.removesuffix("_without_cost")
    known = [value for value in values if value is not None]
    if bare not in (*MORE_IS_BETTER, *LESS_IS_BETTER) or len(set(known)) < 2:
        return []
    top = max(known) if bare in MORE_IS_BETTER else min(known)
    return [place for place, value in enumerate(values) if value == top]


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The places where the configs are not all the same; null where one has no such place."""
    flat = [dict(_leaves(config)) for config in configs]
    paths = dict.fromkeys(path for one in flat for path in one)
    rows = ((path, [one.get(path) for one in flat]) for path in paths)
    return [
        {"path": path, "values": values}
        for path, values in rows
        if not path.startswith(_OURS) and any(value != values[0] for value in values)
    ]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of each leaf; empty lists and mappings are leaves too."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    if not items or not value:
        yield path, value
        return
    for name, inner in items:
        yield from _leaves(inner, f"{path}.{name}" if path else str(name))


def _curve(task: TrainingTask, points: int) -> dict[str, Any] | None:
    try:
        portfolio = reports.of(task, points=points).get("portfolio")
    except (NotFinished, NotFound):
        return None
    if not portfolio:
        return None
    return {"task_id": task.id, "days": portfolio["days"]} | {n: portfolio[n] for n in CURVES}


def _short(task: TrainingTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "name": task.name,
        "owner": task.owner.get_username(),
        "status": task.status,
        "model": task.model,
        "dataset": task.dataset,
        "created_at": task.created_at,
    }

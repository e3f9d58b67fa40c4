"""Makes explicit what a run would otherwise take for granted: defaults, seeds, threads.

Nothing here may change a number: each value is the one that the library takes by itself, except
where it would take none at all (a seed that is null), a machine's number of cores, or what it
happens to time.
"""

from copy import deepcopy
from typing import Any

from training import catalogue_meaning as meaning
from training.catalogue import Catalogue, Entry

_NOT_SHOWN = ("refuse", "ignore", "scratch")
_THREADS = {"lightgbm": "num_threads", "xgboost": "nthread", "catboost": "thread_count"}
_BOOSTER_SEEDS: dict[str, dict[str, int]] = {
    "lightgbm": meaning.LIGHTGBM_SEEDS,
    "xgboost": {"seed": 0},
    "catboost": {"random_seed": 0},
}
DEFAULT_SEED = 0


def complete(task: dict[str, Any], *, catalogue: Catalogue, threads: int) -> None:
    """Fills the canonical task in place."""
    if "model" in task:
        model = task["model"]
        entry = catalogue.get("model", model["class"], model["module_path"])
        model["kwargs"] = _completed(entry, model["kwargs"], threads=threads)
    for record in task.get("record", []):
        if "PortAna" in record["class"]:
            _complete_portfolio(record["kwargs"])


def _completed(entry: Entry, kwargs: dict[str, Any], *, threads: int) -> dict[str, Any]:
    result = dict(kwargs)
    # Also by the names given: Qlib's own `num_boost_round` is an alias to LightGBM.
    taken = {*kwargs, *(entry.own_name(name) for name in kwargs)}
    for parameter in entry.parameters.values():
        fixed = parameter.required or parameter.rule.kind in _NOT_SHOWN
        if not fixed and parameter.name not in taken and parameter.default is not None:
            result[parameter.name] = deepcopy(parameter.default)
    if entry.library:
        _complete_booster(entry, result, taken, threads=threads)
        return result
    if "seed" in entry.parameters and result.get("seed") is None:
        result["seed"] = DEFAULT_SEED
    if "n_jobs" in entry.parameters and "n_jobs" not in kwargs:
        result["n_jobs"] = min(result.get("n_jobs", threads), threads)
    return result


def _complete_booster(
    entry: Entry, result: dict[str, Any], taken: set[str], *, threads: int
) -> None:
    if _THREADS[entry.library] not in taken:
        result[_THREADS[entry.library]] = threads
    if entry.library == "lightgbm" and not taken & {"force_col_wise", "force_row_wise"}:
        # LightGBM would choose by timing both, and the other one adds up in another order.
        result["force_col_wise"] = True
    # LightGBM draws its other seeds from `seed`, where that is given.
    if "seed" in taken:
        return
    for name, value in _BOOSTER_SEEDS[entry.library].items():
        if name not in taken:
            result[name] = value


def _complete_portfolio(kwargs: dict[str, Any]) -> None:
    if kwargs.get("config") is None:
        kwargs["config"] = _qlibs_portfolio()
    kwargs["config"].setdefault(
        "executor",
        {
            "class": "SimulatorExecutor",
            "module_path": "qlib.backtest.executor",
            "kwargs": {"time_per_step": "day", "generate_portfolio_metrics": True},
        },
    )


def _qlibs_portfolio() -> dict[str, Any]:
    """The config that Qlib 0.9.7 takes for a portfolio analysis without one."""
    return {
        "strategy": {
            "class": "TopkDropoutStrategy",
            "module_path": "qlib.contrib.strategy.signal_strategy",
            "kwargs": {"signal": "<PRED>", "topk": 50, "n_drop": 5},
        },
        "backtest": {
            "start_time": None,
            "end_time": None,
            "account": 100000000,
            "benchmark": "SH000300",
            "exchange_kwargs": {
                "limit_threshold": 0.095,
                "deal_price": "close",
                "open_cost": 0.0005,
                "close_cost": 0.0015,
                "min_cost": 5,
            },
        },
    }

"""The result of a training: Qlib's numbers by our stable names, versions, the data used."""

import logging
import math
import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

log = logging.getLogger(__name__)

_EXCESS_RETURN = re.compile(
    r"(?:(?P<scope>[^.]+)\.)?excess_return_(?P<cost>with|without)_cost\.(?P<figure>\w+)"
)
_FREQUENCY = re.compile(r"(?P<frequency>\d+(?:day|minute|min|week|month))\.(?P<figure>\w+)")
_PASS_STATISTICS = ("mean", "std", "mean_std")
# Two of Qlib's figures are too bare to stand alone in a flat list.
_FIGURES = {"mean": "excess_return_mean", "std": "excess_return_std"}
_ALWAYS = {"qlib": "pyqlib", "lightgbm": "lightgbm", "numpy": "numpy", "pandas": "pandas"}
_MODEL_LIBRARIES = {
    "xgboost": "xgboost",
    "catboost": "catboost",
    "linear": "scikit-learn",
    "pytorch": "torch",
    "tcts": "torch",
}


def flat_metrics(recorded: Mapping[str, float]) -> dict[str, float]:
    """Qlib's metrics by our names; what is not finite is left out, and the log says so.

    The frequency of the first portfolio analysis (the outermost executor's) has no prefix.
    """
    main = next((m["frequency"] for name in recorded if (m := _FREQUENCY.match(name))), None)
    named = {metric_name(name, main_frequency=main): value for name, value in recorded.items()}
    for name, value in named.items():
        if not math.isfinite(value):
            log.warning("%s is %s and left out of the result", name, value)
    return {name: float(value) for name, value in named.items() if math.isfinite(value)}


def metric_name(qlib_name: str, *, main_frequency: str | None) -> str:
    """`Rank IC` -> `rank_ic`; `1day.excess_return_without_cost.max_drawdown` ->
    `max_drawdown_without_cost`; `mean.excess_return_with_cost.…` -> `…_mean` (over the passes)."""
    if excess := _EXCESS_RETURN.fullmatch(qlib_name):
        scope, figure = excess["scope"], _FIGURES.get(excess["figure"], excess["figure"])
        suffix = "" if excess["cost"] == "with" else "_without_cost"
        if scope in _PASS_STATISTICS:
            return f"{figure}_{scope}{suffix}"
        return _with_frequency(f"{figure}{suffix}", scope, main_frequency)
    if indicator := _FREQUENCY.fullmatch(qlib_name):
        return _with_frequency(indicator["figure"], indicator["frequency"], main_frequency)
    return re.sub(r"[^a-z0-9]+", "_", qlib_name.lower()).strip("_")


def versions(model_module: str) -> dict[str, str]:
    """What computed the result: Python, Qlib, the libraries, the model's own among them."""
    packages = dict(_ALWAYS)
    for sign, package in _MODEL_LIBRARIES.items():
        if sign in model_module:
            packages[package] = package
    found = {name: _version(package) for name, package in packages.items()}
    return {"python": platform.python_version()} | {n: v for n, v in found.items() if v is not None}


def data_used(dataset: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """The dataset's name and fingerprint, and what of it was used.

    index: the loaded rows, a pandas index (datetime, instrument).
    """
    days = index.get_level_values("datetime")
    return {
        "dataset": dataset["name"],
        "fingerprint": dataset["fingerprint"],
        "first_day": f"{days.min():%Y-%m-%d}",
        "last_day": f"{days.max():%Y-%m-%d}",
        "instruments": int(index.get_level_values("instrument").nunique()),
        "rows": len(index),
    }


def mentions(config: Any, placeholder: str) -> bool:
    """Is this placeholder (`<DATASET>`) anywhere in the config?"""
    if isinstance(config, Mapping):
        return mentions(list(config.values()), placeholder)
    if isinstance(config, str):
        return config == placeholder
    return isinstance(config, Iterable) and any(mentions(item, placeholder) for item in config)


def _with_frequency(name: str, frequency: str | None, main_frequency: str | None) -> str:
    return name if frequency in (None, main_frequency) else f"{frequency}_{name}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

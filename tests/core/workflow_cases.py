"""What the tests of the check share: a market to check against, and a workflow that passes."""

import datetime
from copy import deepcopy
from typing import Any

from training.errors import InvalidConfig
from training.workflow import Defaults, MarketFacts, Workflow, check, from_data

FIRST, LAST = datetime.date(2005, 1, 4), datetime.date(2021, 6, 11)


def _weekdays() -> list[str]:
    count = (LAST - FIRST).days + 1
    days = (FIRST + datetime.timedelta(days=n) for n in range(count))
    return [day.isoformat() for day in days if day.weekday() < 5]


def cn_manifest() -> dict[str, Any]:
    """A manifest as a registered `cn_data` has it: weekdays, 800 codes, two indexes."""
    days = _weekdays()
    codes = [f"SH6{number:05d}" for number in range(800)]
    span = [days[0], days[-1]]
    return {
        "name": "cn_data",
        "version": "v1",
        "region": "cn",
        "days": days,
        "fields": ["open", "high", "low", "close", "volume", "vwap", "change", "factor"],
        "instruments": dict.fromkeys([*codes, "SH000300", "SH000905"], span),
        "markets": {"csi300": codes[:300], "csi500": codes[300:], "all": codes},
        "benchmarks": ["SH000300", "SH000905"],
    }


CN = MarketFacts.from_manifest(cn_manifest())
DEFAULTS = Defaults(threads=4)


def market(name: str | None) -> MarketFacts | None:
    return CN if name in (None, "cn_data") else None


def workflow() -> dict[str, Any]:
    """Qlib's LightGBM example as plain data."""
    handler = {
        "start_time": "2008-01-01",
        "end_time": "2020-08-01",
        "fit_start_time": "2008-01-01",
        "fit_end_time": "2014-12-31",
        "instruments": "csi300",
    }
    exchange = {"limit_threshold": 0.095, "deal_price": "close", "min_cost": 5}
    portfolio = {
        "strategy": {
            "class": "TopkDropoutStrategy",
            "module_path": "qlib.contrib.strategy",
            "kwargs": {"signal": "<PRED>", "topk": 50, "n_drop": 5},
        },
        "backtest": {
            "start_time": "2017-01-01",
            "end_time": "2020-08-01",
            "account": 100000000,
            "benchmark": "SH000300",
            "exchange_kwargs": exchange,
        },
    }
    return {
        "qlib_init": {"provider_uri": "~/.qlib/qlib_data/cn_data", "region": "cn"},
        "task": {
            "model": {
                "class": "LGBModel",
                "module_path": "qlib.contrib.model.gbdt",
                "kwargs": {"loss": "mse", "num_leaves": 210, "num_threads": 20},
            },
            "dataset": {
                "class": "DatasetH",
                "module_path": "qlib.data.dataset",
                "kwargs": {
                    "handler": {
                        "class": "Alpha158",
                        "module_path": "qlib.contrib.data.handler",
                        "kwargs": handler,
                    },
                    "segments": {
                        "train": ["2008-01-01", "2014-12-31"],
                        "valid": ["2015-01-01", "2016-12-31"],
                        "test": ["2017-01-01", "2020-08-01"],
                    },
                },
            },
            "record": [
                {"class": "SignalRecord", "kwargs": {"model": "<MODEL>", "dataset": "<DATASET>"}},
                {"class": "SigAnaRecord", "kwargs": {"ana_long_short": False}},
                {"class": "PortAnaRecord", "kwargs": {"config": portfolio}},
            ],
        },
    }


MISSING = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """The workflow with one place set, or removed by MISSING; steps between are made."""
    result = deepcopy(workflow())
    *way, last = path.split(".")
    here: Any = result
    for step in way:
        here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
    if value is MISSING:
        del here[last]
    elif isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value
    return result


def checked(data: dict[str, Any], *, defaults: Defaults = DEFAULTS) -> Workflow:
    return check(from_data(data), market=market, defaults=defaults)


def faults(data: dict[str, Any]) -> dict[str, str]:
    """Path → message of every fault; empty, if the workflow passes."""
    try:
        checked(data)
    except InvalidConfig as refused:
        return {fault.path: fault.message for fault in refused.faults}
    return {}


def hints(data: dict[str, Any]) -> dict[str, str | None]:
    try:
        checked(data)
    except InvalidConfig as refused:
        return {fault.path: fault.hint for fault in refused.faults}
    return {}


def warnings(data: dict[str, Any]) -> dict[str, str]:
    return {fault.path: fault.message for fault in checked(data).warnings}

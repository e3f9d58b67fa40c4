"""Real LightGBM workflows on a small part of the market, as YAML."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import yaml


@dataclass(frozen=True)
class Market:
    """What the tests' dataset has; instruments: more than enough for all tests."""

    name: str
    instruments: tuple[str, ...]
    benchmark: str
    first_on: date
    last_on: date


def small(
    market: Market,
    *,
    instruments: int = 15,
    fit_days: int = 330,
    valid_days: int = 90,
    test_days: int = 90,
    rounds: int = 20,
    name: str = "small",
    **platform: Any,
) -> str:
    """Alpha158, LightGBM, three records; seconds by default. Days are of the calendar."""
    begin = market.first_on + timedelta(days=120)
    valid = begin + timedelta(days=fit_days)
    test = valid + timedelta(days=valid_days)
    # Qlib's backtest wants a trading day after its last one.
    end = min(test + timedelta(days=test_days), market.last_on - timedelta(days=7))
    codes = list(market.instruments[:instruments])
    model = {
        "class": "LGBModel",
        "module_path": "qlib.contrib.model.gbdt",
        "kwargs": {
            "loss": "mse",
            "num_leaves": 15,
            "num_boost_round": rounds,
            "early_stopping_rounds": rounds,
            "seed": 7,
        },
    }
    span = {"start_time": begin, "end_time": end}
    handler = {
        "class": "Alpha158",
        "module_path": "qlib.contrib.data.handler",
        "kwargs": {
            **span,
            "fit_start_time": begin,
            "fit_end_time": valid - timedelta(days=1),
            "instruments": codes,
        },
    }
    dataset = {
        "class": "DatasetH",
        "module_path": "qlib.data.dataset",
        "kwargs": {
            "handler": handler,
            "segments": {
                "train": [begin, valid - timedelta(days=1)],
                "valid": [valid, test - timedelta(days=1)],
                "test": [test, end],
            },
        },
    }
    document = {
        "platform": {"name": name, **platform},
        "qlib_init": {"provider_uri": market.name, "region": "us"},
        "task": {"model": model, "dataset": dataset, "record": _records(market, test, end)},
    }
    return yaml.safe_dump(document, sort_keys=False)


def _records(market: Market, begin: date, end: date) -> list[dict[str, Any]]:
    module = "qlib.workflow.record_temp"
    strategy = {
        "class": "TopkDropoutStrategy",
        "module_path": "qlib.contrib.strategy",
        "kwargs": {"signal": "<PRED>", "topk": 2, "n_drop": 1},
    }
    backtest = {
        "start_time": begin,
        "end_time": end,
        "account": 1_000_000,
        "benchmark": market.benchmark,
        "exchange_kwargs": {"deal_price": "close", "open_cost": 0.0005, "close_cost": 0.0005},
    }
    signal = {"model": "<MODEL>", "dataset": "<DATASET>"}
    return [
        {"class": "SignalRecord", "module_path": module, "kwargs": signal},
        {"class": "SigAnaRecord", "module_path": module, "kwargs": {"ana_long_short": False}},
        {
            "class": "PortAnaRecord",
            "module_path": module,
            "kwargs": {"config": {"strategy": strategy, "backtest": backtest}},
        },
    ]

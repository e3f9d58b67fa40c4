"""What a workflow's figures rest on, out of its config: its label, and how its backtest trades."""

import re
from collections.abc import Mapping
from typing import Any

from .catalogue_meaning import OWN_FIELDS

# A price later by one before it (or by today's), less one; Qlib's usual label among them.
_PRICE = r"\$(?:open|high|low|close|vwap)"
_MOMENT = rf"(?:Ref\({_PRICE},-\d+\)|{_PRICE})"
_RETURN = re.compile(rf"\(?{_MOMENT}/{_MOMENT}\)?-1(?:\.0*)?")
_BACKTESTS = ("PortAnaRecord", "MultiPassPortAnaRecord")


def label_is_return(config: Mapping[str, Any]) -> bool:
    """Whether the first label is a forward return, so that percent may be said of it.

    config: as it was run. What is not known to be one is none.
    """
    handler = _dig(config, "task", "dataset", "kwargs", "handler")
    given = _dig(handler, "kwargs", "label")
    if given is None:
        given = _dig(handler, "kwargs", "data_loader", "kwargs", "config", "label")
    if given is None:
        return _dig(handler, "class") in OWN_FIELDS
    # An expression, a list of them, or such a list beside the list of their names.
    while isinstance(given, list | tuple) and given:
        given = given[0]
    return isinstance(given, str) and bool(_RETURN.fullmatch(re.sub(r"\s", "", given)))


def backtest(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the backtest traded: benchmark, strategy, topk, n_drop, open_cost, close_cost, min_cost.

    Only what the config says; costs are shares of what is traded. Empty without a backtest.
    """
    records = _dig(config, "task", "record")
    for record in records if isinstance(records, list) else [records]:
        if _dig(record, "class") in _BACKTESTS:
            asked = _dig(record, "kwargs", "config")
            return _named(asked)
    return {}


def _named(asked: Any) -> dict[str, Any]:
    strategy, costs = _dig(asked, "strategy"), _dig(asked, "backtest", "exchange_kwargs")
    found = {
        "benchmark": _dig(asked, "backtest", "benchmark"),
        "strategy": _dig(strategy, "class"),
        **{name: _dig(strategy, "kwargs", name) for name in ("topk", "n_drop")},
        **{name: _dig(costs, name) for name in ("open_cost", "close_cost", "min_cost")},
    }
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def _dig(value: Any, *path: str) -> Any:
    """What lies there; None where a part of the way is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value

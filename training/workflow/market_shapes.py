"""Shapes that speak of the market: instruments, columns, filters, segments, the backtest."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from training import catalogue_meaning as meaning
from training.catalogue import Entry, Rule
from training.workflow.document import Path
from training.workflow.facts import MarketFacts
from training.workflow.findings import did_you_mean, shown
from training.workflow.values import BAD, check_plain

if TYPE_CHECKING:
    from training.workflow.shape import Shape

_CODE = re.compile(r"[A-Za-z0-9_.\-^]{1,32}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_COLUMN = re.compile(r"[^\x00-\x1f/\\]{1,200}")
# Literals, classes and at most three quantifiers, no groups: nothing that backtracks for long.
_PATTERN = re.compile(r"[A-Za-z0-9_.^$|\[\]\-*+?\\]{1,64}", re.ASCII)
MAX_FILTERS = 10

_FILTER_KEYS = {
    "NameDFilter": {"name_rule_re": "name_rule_re"},
    "ExpressionDFilter": {"rule_expression": "rule_expression", "keep": "keep"},
}


def _instruments(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if isinstance(value, str):
        return _market(shape, value, path)
    if isinstance(value, list) and value:
        found = [_code(shape, item, (*path, place)) for place, item in enumerate(value)]
        return BAD if any(item is BAD for item in found) else found
    hint = "to filter, use filter_pipe" if isinstance(value, dict) else None
    message = "instruments are the name of a market or a list of codes"
    shape.findings.fault(path, message, hint=hint)
    return BAD


def _market(shape: "Shape", value: str, path: Path) -> Any:
    if not _NAME.fullmatch(value):
        shape.findings.fault(path, f"{shown(value)} is no name of a market")
        return BAD
    if shape.facts is None or value.lower() in {name.lower() for name in shape.facts.markets}:
        return value
    known = shape.facts.markets
    hint = did_you_mean(value, known) or f"it has {', '.join(sorted(known)[:10])}"
    shape.findings.fault(path, f"dataset {shape.facts.name} has no market {value}", hint=hint)
    return BAD


def _code(shape: "Shape", value: Any, path: Path) -> Any:
    if not isinstance(value, str) or not _CODE.fullmatch(value) or value.strip(".") == "":
        shape.findings.fault(path, f"{shown(value)} is no code of an instrument")
        return BAD
    if shape.facts is None or value.lower() in shape.facts.by_lower_name:
        return value
    hint = None
    if len(shape.findings.faults) < 5:
        hint = did_you_mean(value, shape.facts.by_lower_name.values())
    shape.findings.fault(path, f"dataset {shape.facts.name} has no instrument {value}", hint=hint)
    return BAD


def _expression(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    return shape.expression(value, path, role="filter")


def _expressions(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    return _each(shape, value, path, role="field")


def _each(shape: "Shape", value: Any, path: Path, *, role: str) -> Any:
    items = shape.items(value, path, "expressions")
    if items is None:
        return BAD
    found = [shape.expression(item, (*path, n), role=role) for n, item in enumerate(items)]
    return BAD if any(item is BAD for item in found) else found


def _fields(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    """`[expressions]` or `[[expressions], [names]]`; of a label unless the path says otherwise."""
    return _columns(shape, value, path, role="label" if path[-1] == "label" else "feature")


def _columns(shape: "Shape", value: Any, path: Path, *, role: str) -> Any:
    if not isinstance(value, list) or not value:
        shape.findings.fault(path, "columns are a list of expressions")
        return BAD
    if not isinstance(value[0], list):
        return _each(shape, value, path, role=role)
    if len(value) != 2 or not isinstance(value[1], list) or len(value[0]) != len(value[1]):
        shape.findings.fault(path, "expressions and names are two lists of one length")
        return BAD
    texts = _each(shape, value[0], (*path, 0), role=role)
    names = value[1]
    for place, name in enumerate(names):
        if not isinstance(name, str) or not _COLUMN.fullmatch(name):
            shape.findings.fault((*path, 1, place), f"{shown(name)} is no name of a column")
            return BAD
    if len(set(names)) < len(names):
        shape.findings.fault((*path, 1), "a column's name stands twice")
        return BAD
    return BAD if texts is BAD else [texts, list(names)]


def _loader_config(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if value is None and entry is not None and entry.name != "QlibDataLoader":
        return None
    if not isinstance(value, dict):
        return _columns(shape, value, path, role="feature")
    result = {}
    for group, columns in value.items():
        if group not in ("feature", "label"):
            message = f"a group of columns is `feature` or `label`, not {shown(group)}"
            shape.findings.fault(
                (*path, group), message, hint=did_you_mean(group, ["feature", "label"])
            )
            result[group] = BAD
            continue
        result[group] = _columns(shape, columns, (*path, group), role=group)
    return BAD if any(item is BAD for item in result.values()) else result


def _group(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if value in ("feature", "label"):
        return value
    if isinstance(value, list) and value and all(item in ("feature", "label") for item in value):
        return value
    hint = did_you_mean(value, ["feature", "label"])
    shape.findings.fault(path, f"{shown(value)} is no group: `feature` or `label`", hint=hint)
    return BAD


def _freq(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if value in ("day", "1day", "1d"):
        return value
    shape.findings.fault(path, f"{shown(value)} is refused: the datasets hold daily bars only")
    return BAD


def _report_freq(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    for item in value if isinstance(value, list) else [value]:
        if item not in ("day", "1day"):
            shape.findings.fault(path, f"{shown(item)} is no frequency of the backtest: 1day")
            return BAD
    return value


def _name_pattern(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    plain = isinstance(value, str) and _PATTERN.fullmatch(value)
    if not plain or sum(value.count(mark) for mark in "*+?") > 3:
        message = "a pattern has at most 64 plain characters, three of * + ?, and no groups"
        shape.findings.fault(path, message)
        return BAD
    try:
        re.compile(value)
    except re.error as error:
        shape.findings.fault(path, f"{shown(value)} is no pattern: {error}")
        return BAD
    return value


def _filters(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    items = shape.items(value, path, "filters")
    if items is None:
        return BAD
    if len(items) > MAX_FILTERS:
        shape.findings.fault(path, f"at most {MAX_FILTERS} filters")
        return BAD
    found = [_filter(shape, item, (*path, place)) for place, item in enumerate(items)]
    return BAD if any(item is BAD for item in found) else found


def _filter(shape: "Shape", value: Any, path: Path) -> Any:
    """Qlib's own form: `filter_type` and flat keys; both dates must stand, null is open."""
    kind = value.get("filter_type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FILTER_KEYS:
        hint = did_you_mean(kind, _FILTER_KEYS)
        message = f"a filter has a `filter_type`: {' or '.join(_FILTER_KEYS)}"
        shape.findings.fault((*path, "filter_type"), message, hint=hint)
        return BAD
    table = {
        "filter_type": "text",
        "filter_start_time": "date?",
        "filter_end_time": "date?",
        "keep": "bool",
        "name_rule_re": "name_pattern",
        "rule_expression": "expression",
    }
    wanted = {"filter_type", "filter_start_time", "filter_end_time", *_FILTER_KEYS[kind]}
    own = {name: text for name, text in table.items() if name in wanted}
    result = shape.mapping(own, value, path, kind)
    if result is BAD:
        return BAD
    for name in _FILTER_KEYS[kind]:
        if name not in result and name != "keep":
            shape.findings.fault((*path, name), f"{kind} needs {name}")
            return BAD
    defaults: dict[str, Any] = {"filter_start_time": None, "filter_end_time": None}
    if kind == "ExpressionDFilter":
        defaults["keep"] = False
    return {**defaults, **result}


def _segments(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if not isinstance(value, dict) or not 0 < len(value) <= 20:
        shape.findings.fault(path, "segments are a mapping such as train: [2008-01-01, 2014-12-31]")
        return BAD
    result = {name: _segment(shape, name, span, (*path, name)) for name, span in value.items()}
    return BAD if any(item is BAD for item in result.values()) else result


def _segment(shape: "Shape", name: str, span: Any, path: Path) -> Any:
    if not _NAME.fullmatch(name):
        shape.findings.fault(path, f"{shown(name)} is no name of a segment")
        return BAD
    if not isinstance(span, list) or len(span) != 2:
        shape.findings.fault(path, "a segment is [first day, last day]; null is open")
        return BAD
    day = Rule("date", nullable=True)
    found = [
        check_plain(shape.findings, (*path, place), item, day) for place, item in enumerate(span)
    ]
    return BAD if any(item is BAD for item in found) else found


# ── the backtest ────────────────────────────────────────────────────────────────────────


def _portfolio(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    table = {"strategy": "strategy", "executor": "executor", "backtest": "backtest"}
    result = shape.mapping(table, value, path, "the config of a portfolio analysis")
    if result is BAD:
        return BAD
    for name in ("strategy", "backtest"):
        if name not in result:
            shape.findings.fault((*path, name), f"a portfolio analysis needs a {name}")
            return BAD
    return result


def _backtest(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if not isinstance(value, dict):
        shape.findings.fault(path, "a backtest is a mapping with `start_time` and `end_time`")
        return BAD
    exchange = shape.catalogue.get("exchange", "Exchange")
    table = {
        "start_time": "date?",
        "end_time": "date?",
        "account": "account",
        "benchmark": "benchmark?",
        "exchange_kwargs": "exchange",
        "pos_type": "choice Position",
    }
    own = {}
    result: dict[str, Any] = {}
    for name, item in value.items():
        if name not in table and name in exchange.parameters:
            hint = "move it into exchange_kwargs"
            shape.findings.fault((*path, name), f"a backtest has no `{name}`", hint=hint)
            result[name] = BAD
        else:
            own[name] = item
    checked = shape.mapping(table, own, path, "a backtest")
    return BAD if checked is BAD or result else checked


def _exchange(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    return shape.kwargs(shape.catalogue.get("exchange", "Exchange"), value, path)


def _benchmark(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if isinstance(value, list) and value:
        found = [_code(shape, item, (*path, place)) for place, item in enumerate(value)]
        return BAD if any(item is BAD for item in found) else found
    return _code(shape, value, path)


def _account(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    return check_plain(shape.findings, path, value, Rule("float", low=0, high=1e15, low_open=True))


def _deal_price(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    """A name (`close`), an expression with `$`, or two expressions: to buy, to sell."""
    if isinstance(value, list):
        if len(value) != 2:
            shape.findings.fault(path, "deal prices are two: to buy and to sell")
            return BAD
        return _each(shape, value, path, role="price")
    if isinstance(value, str) and not value.startswith("$"):
        if not _NAME.fullmatch(value):
            hint = "an expression begins with `$` here, or stands in a list of two"
            shape.findings.fault(path, f"{shown(value)} is no field", hint=hint)
            return BAD
        return BAD if shape.expression("$" + value, path, role="price") is BAD else value
    return shape.expression(value, path, role="price")


def _limit(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    """Qlib wants a float here and fails on an int; or two expressions: no buying, no selling."""
    if isinstance(value, list):
        if len(value) != 2:
            shape.findings.fault(path, "limits are two expressions: to buy and to sell")
            return BAD
        return _each(shape, value, path, role="limit")
    if isinstance(value, int) and not isinstance(value, bool):
        shape.findings.warn(path, f"{value} is read as {float(value)}: Qlib takes no whole number")
        value = float(value)
    return check_plain(shape.findings, path, value, Rule("float", low=0, high=1, low_open=True))


def _volume_limit(shape: "Shape", value: Any, path: Path, rule: Rule, entry: Entry | None) -> Any:
    if not isinstance(value, dict):
        return _one_volume_limit(shape, value, path)
    strangers = [side for side in value if side not in ("all", "buy", "sell")]
    for side in strangers:
        shape.findings.fault((*path, side), "a volume limit is for `all`, `buy` or `sell`")
    result = {side: _one_volume_limit(shape, item, (*path, side)) for side, item in value.items()}
    return BAD if strangers or any(item is BAD for item in result.values()) else result


def _one_volume_limit(shape: "Shape", value: Any, path: Path) -> Any:
    if not isinstance(value, list) or len(value) != 2 or value[0] not in ("cum", "current"):
        shape.findings.fault(path, "a volume limit is [cum or current, expression]")
        return BAD
    found = shape.expression(value[1], (*path, 1), role="limit")
    return BAD if found is BAD else [value[0], found]


def codes_of(names: Any, markets: Iterable[str]) -> str | None:
    """The market's own spelling for a name that may differ in case."""
    if not isinstance(names, str):
        return None
    return next((market for market in markets if market.lower() == names.lower()), None)


def codes_loaded(handler: dict[str, Any], facts: MarketFacts) -> tuple[str, ...]:
    """What a handler loads of the dataset, as far as it is there."""
    # Qlib's own handlers take csi500 where no market is named, others take all.
    default = meaning.OWN_MARKET if handler["class"] in meaning.OWN_FIELDS else None
    named = handler["kwargs"].get("instruments", default)
    if isinstance(named, list):
        by_name, wanted = facts.by_lower_name, dict.fromkeys(code.lower() for code in named)
        return tuple(by_name[code] for code in wanted if code in by_name)
    market = codes_of(named if named is not None else "all", facts.markets)
    return facts.markets[market] if market else tuple(facts.instruments)


SHAPES = {
    "instruments": _instruments,
    "expression": _expression,
    "expressions": _expressions,
    "fields": _fields,
    "loader_config": _loader_config,
    "group": _group,
    "freq": _freq,
    "report_freq": _report_freq,
    "name_pattern": _name_pattern,
    "filters": _filters,
    "segments": _segments,
    "portfolio": _portfolio,
    "backtest": _backtest,
    "exchange": _exchange,
    "benchmark": _benchmark,
    "account": _account,
    "deal_price": _deal_price,
    "limit": _limit,
    "volume_limit": _volume_limit,
}

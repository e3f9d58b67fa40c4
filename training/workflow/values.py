"""Plain values against their rule: numbers, texts, choices, dates. No Qlib shapes here."""

import datetime
import re
from typing import Any

from training import catalogue_meaning as meaning
from training.catalogue import Rule
from training.workflow.document import Path
from training.workflow.findings import Findings, did_you_mean, shown

BAD: Any = object()
"""Stands for a value with a fault that has been told."""

LEFT_OUT: Any = object()
"""Stands for a value that is accepted and not passed on."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?", re.ASCII)
_DEVICE = re.compile(r"cpu|cuda(?::[0-9]{1,2})?", re.ASCII)
_METRIC_AT = re.compile(r"[a-z_]{2,20}@[0-9]{1,3}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,20}://")


def check_plain(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    """The value as it goes on, or BAD or LEFT_OUT; KeyError for a kind that is not plain."""
    if value is None and rule.nullable:
        return _null(rule)
    return _CHECKS[rule.kind](findings, path, value, rule)


def is_plain(kind: str) -> bool:
    return kind in _CHECKS


def _null(rule: Rule) -> Any:
    return LEFT_OUT if rule.kind == "ignore" else None


def _wrong(findings: Findings, path: Path, value: Any, wanted: str, hint: str | None = None) -> Any:
    if isinstance(value, str) and _ADDRESS.match(value):
        findings.fault(path, "an address is not accepted: file:// would be unpickled", hint=hint)
    else:
        findings.fault(path, f"{shown(value)} is not {wanted}", hint=hint)
    return BAD


def _int(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        return _wrong(findings, path, value, "a whole number", _number_hint(value))
    return _in_range(findings, path, value, rule)


def _float(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _wrong(findings, path, value, "a number", _number_hint(value))
    return _in_range(findings, path, value, rule)


def _number_hint(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        float(value)
    except ValueError:
        return None
    return f"write {value} without quotes"


def _in_range(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if rule.low is None or rule.high is None:
        return value
    if value < rule.low or value > rule.high or (rule.low_open and value == rule.low):
        above = "above " if rule.low_open else ""
        findings.fault(
            path,
            f"{shown(value)} is out of range: {above}{_count(rule.low)} to {_count(rule.high)}",
        )
        return BAD
    return value


def _bool(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, bool):
        return value
    hint = "in YAML 1.2 only true and false are" if value in ("yes", "no", "on", "off") else None
    return _wrong(findings, path, value, "true or false", hint)


def _text(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, str) and len(value) <= 200 and not _ADDRESS.match(value):
        return value
    return _wrong(findings, path, value, "a short text")


def _choice(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, str) and value in rule.choices:
        return value
    known = ", ".join(repr(choice) for choice in rule.choices)
    return _wrong(findings, path, value, f"one of {known}", did_you_mean(value, rule.choices))


_LONGEST = {"int": 64, "float": 1000, "text": 20_000}


def _list_of(kind: str) -> Any:
    def check(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
        if not isinstance(value, list):
            return _wrong(findings, path, value, "a list")
        most = _LONGEST[kind]
        if len(value) > most:
            findings.fault(path, f"a list of at most {most} is accepted here, not {len(value)}")
            return BAD
        one = Rule(kind, low=rule.low, high=rule.high, low_open=rule.low_open)
        items = [
            check_plain(findings, (*path, place), item, one) for place, item in enumerate(value)
        ]
        return BAD if any(item is BAD for item in items) else items

    return check


def _refuse(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if value is False or value == "":
        return value
    findings.fault(path, f"{path[-1]} is refused: {rule.reason}")
    return BAD


def _ignore(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    findings.warn(path, f"{path[-1]} is left out: {rule.reason}")
    return LEFT_OUT


def _scratch(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if not isinstance(value, str):
        return _wrong(findings, path, value, "a path")
    if value != rule.reason:
        findings.warn(path, f"written to `{rule.reason}` in the run's own folder instead")
    return rule.reason


def _placeholder(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if value == rule.reason:
        return value
    return _wrong(findings, path, value, f"`{rule.reason}`, the only thing accepted here")


def _date(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            datetime.datetime.fromisoformat(value)
        except ValueError:
            return _wrong(findings, path, value, "a day of the calendar")
        return value
    return _wrong(findings, path, value, "a date such as 2020-08-01")


def _gpu(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if isinstance(value, str) and _DEVICE.fullmatch(value):
        return value
    return _int(findings, path, value, Rule("int", low=-1, high=63))


def _metrics(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    names = value if isinstance(value, list) else [value]
    for name in names:
        known = isinstance(name, str) and (name in meaning.METRICS or _METRIC_AT.fullmatch(name))
        if not known:
            hint = did_you_mean(name, meaning.METRICS)
            return _wrong(findings, path, name, "a metric of the library", hint)
    return value


def _empty(findings: Findings, path: Path, value: Any, rule: Rule) -> Any:
    if value == {}:
        return value
    return _wrong(findings, path, value, "empty, the only thing accepted here")


_CHECKS = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "text": _text,
    "choice": _choice,
    "ints": _list_of("int"),
    "floats": _list_of("float"),
    "texts": _list_of("text"),
    "refuse": _refuse,
    "ignore": _ignore,
    "scratch": _scratch,
    "placeholder": _placeholder,
    "date": _date,
    "gpu": _gpu,
    "metrics": _metrics,
    "empty": _empty,
}


def _count(bound: float) -> str:
    """As people write it: 31,536,000, but 1e+300."""
    return f"{bound:,.0f}" if bound == int(bound) and abs(bound) < 1e15 else f"{bound:g}"

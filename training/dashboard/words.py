"""How values are said: template filters and tags, known to every template of the pages."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import yaml
from django import template
from django.http import QueryDict
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString

register = template.Library()

PERCENTAGES = ("return", "drawdown", "turnover", "excess")
"""Metrics with one of these in their names are shares of the account."""

TITLES = {
    "ic": "IC",
    "icir": "ICIR",
    "rank_ic": "Rank IC",
    "rank_icir": "Rank ICIR",
    "annualized_return": "Excess return p.a.",
    "ffr": "Fulfilled orders (FFR)",
    "pa": "Price advantage (PA)",
    "pos": "Orders at a better price (POS)",
    "information_ratio": "Information ratio",
    "max_drawdown": "Max drawdown",
    "turnover": "Turnover a day",
}

SHORT_TITLES = {
    "annualized_return": "Excess p.a.",
    "information_ratio": "Inf. ratio",
    "max_drawdown": "Drawdown",
    "turnover": "Turnover",
}
"""Where a table has many columns."""

# Sequences that terminals obey, control characters, and marks that turn the reading direction.
_CONTROLS = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@register.filter
def plain(text: str) -> str:
    """The text without terminal codes and other control characters."""
    return _CONTROLS.sub("", str(text))


@register.filter
def breakable(path: str) -> str:
    """A dotted path that a narrow line breaks behind a dot, not inside a word."""
    return SafeString(".<wbr>".join(escape(part) for part in plain(path).split(".")))


@register.filter
def title_of(metric: str) -> str:
    """`rank_ic_mean` as people write it."""
    if metric in TITLES:
        return TITLES[metric]
    base = metric.removesuffix("_without_cost")
    said = TITLES.get(base) or base.replace("_", " ").capitalize()
    return f"{said}, without cost" if base != metric else said


@register.filter
def short_title_of(metric: str) -> str:
    """The same where room is scarce."""
    return SHORT_TITLES.get(metric) or title_of(metric)


@register.filter
def figure(value: float | None, name: str = "") -> str:
    """A metric's value; a dash where there is none."""
    if value is None:
        return "–"
    if any(word in name for word in PERCENTAGES):
        return f"{100 * value:,.2f} %".replace("-", "−")
    return _rounded(value).replace("-", "−")


def _rounded(value: float) -> str:
    """To about four digits, with separators; whole from a thousand on."""
    size = abs(value)
    if size >= 1e15 or 0 < size < 0.000_1:
        return f"{value:.3g}"
    digits = next(n for n, least in enumerate((1_000, 100, 10, 1, 0)) if size >= least)
    return f"{value:,.{digits}f}"


@register.filter
def percent(value: float) -> str:
    """Progress: one decimal while it runs."""
    return f"{value:.0f} %" if value >= 100 else f"{value:.1f} %"


@register.filter
def completeness(share: float) -> str:
    """`99.98 %`; rounded down, so that 100 % has no gap."""
    return f"{math.floor(share * 10_000) / 100:.6g} %"


@register.filter
def duration(seconds: float | None) -> str:
    """`0.4 s`, `3 m 05 s`, `2 h 04 m`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} m {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02} m"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


@register.filter
def age(at: datetime | None) -> str:
    """How long ago: one number, one unit."""
    if at is None:
        return "–"
    seconds = max((timezone.now() - at).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


@register.filter
def took(task: Any) -> str:
    """From the start to the end; a dash while there is no end."""
    if not (task.started_at and task.completed_at):
        return "–"
    return duration((task.completed_at - task.started_at).total_seconds())


@register.filter
def size(byte_count: float | None) -> str:
    """`2.4 MiB`."""
    if byte_count is None:
        return "–"
    value = float(byte_count)
    for unit in _UNITS:
        if value < 1_024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1_024
    raise AssertionError("the last unit has no end")


@register.filter
def moment(at: datetime | None) -> str:
    """Day and time, UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "–"


@register.filter
def as_yaml(value: Any) -> str:
    """The value as the block style of YAML."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return text


@register.filter
def item(values: Mapping[str, Any], key: str) -> Any:
    """`values[key]`, None where it is missing."""
    return values.get(key)


@register.filter
def minus(left: Iterable[Any], right: Iterable[Any]) -> list[Any]:
    """What of the left is not in the right, in order."""
    gone = set(right)
    return [one for one in left if one not in gone]


@register.simple_tag(takes_context=True)
def query_with(context: template.Context, **changes: Any) -> str:
    """This page's query with some parameters changed; an empty value takes one away."""
    query: QueryDict = context["request"].GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value not in (None, ""):
            query[name] = str(value)
    return f"?{query.urlencode()}"


@register.simple_tag(takes_context=True)
def current(context: template.Context, *names: str) -> str:
    """Marks the link of the page that one is on."""
    match = context["request"].resolver_match
    return SafeString('aria-current="page"') if match and match.url_name in names else ""

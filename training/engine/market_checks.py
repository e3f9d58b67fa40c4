"""The rules a bar must keep, and everything that breaks them: file, row, column, value, cure.

Checks whole columns at once; only what is wrong becomes an object.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from .market_bars import PRICES, BarFile

INSTRUMENT_FORM = re.compile(r"(?!\.)[A-Za-z0-9_.\-^]{1,32}")
# Qlib reads instrument files with pandas, which takes these names for missing values.
READ_AS_MISSING = frozenset(("NA", "NULL", "NaN", "None", "nan", "null", "-nan", "-NaN"))
EARLIEST_DAY = np.datetime64("1900-01-01", "D")
# Bars from vendors that keep prices as float32 miss each other by its last digit.
PRICE_TOLERANCE = 2.5e-7
STORE_MIN, STORE_MAX = 1e-30, 1e30

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class RowFault:
    """One cell that breaks a rule. row: as in `BarFile.rows`; value: as it stands in the file."""

    file: str
    row: int
    column: str
    value: str
    message: str
    cure: str


@dataclass(frozen=True)
class Finding:
    """Rows of one file that break the same rule in the same column. positions: from 0."""

    file: int
    column: str
    positions: np.ndarray[Any, np.dtype[np.int64]]
    message: str
    cure: str


def latest_day() -> date:
    """The last day that has begun anywhere on earth."""
    return (datetime.now(UTC) + timedelta(hours=14)).date()


def check(files: Sequence[BarFile]) -> list[Finding]:
    """Every finding in all files, those between files included."""
    findings = []
    for number, file in enumerate(files):
        for column, mask, message, cure in (*_key_rules(file), *_value_rules(file)):
            if mask.any():
                findings.append(Finding(number, column, np.flatnonzero(mask), message, cure))
    bad = [bad_rows(findings, file=number, count=len(one.rows)) for number, one in enumerate(files)]
    return [*findings, *_between_rows(files, bad)]


def bad_rows(findings: Sequence[Finding], *, file: int, count: int) -> Mask:
    """Which of the file's rows have a finding."""
    mask = np.zeros(count, dtype=bool)
    for finding in findings:
        if finding.file == file:
            mask[finding.positions] = True
    return mask


def count_faults(files: Sequence[BarFile], findings: Sequence[Finding]) -> int:
    """How many cells and torn lines are wrong."""
    return sum(len(one.positions) for one in findings) + sum(len(one.torn) for one in files)


def faults(files: Sequence[BarFile], findings: Sequence[Finding]) -> Iterator[RowFault]:
    """The faults, file by file, in the order of the rows; made one at a time."""
    for number, file in enumerate(files):
        yield from _torn_lines(file)
        own = [one for one in findings if one.file == number]
        if not own:
            continue
        positions = np.concatenate([one.positions for one in own])
        sources = np.repeat(np.arange(len(own)), [len(one.positions) for one in own])
        for place in np.lexsort((sources, positions)):
            finding, position = own[sources[place]], int(positions[place])
            yield RowFault(
                file=file.name,
                row=int(file.rows[position]),
                column=finding.column,
                value=file.cell(position, finding.column),
                message=finding.message,
                cure=finding.cure,
            )


def _torn_lines(file: BarFile) -> Iterator[RowFault]:
    for row, text in file.torn.items():
        message = "has another number of cells than the header"
        yield RowFault(file.name, row, "", text[:200], message, "mend or remove the line")


Rule = tuple[str, Mask, str, str]


def _key_rules(file: BarFile) -> Iterator[Rule]:
    days = file.days
    yield (
        "date",
        np.isnat(days),
        "is not a plain day",
        "write it as YYYY-MM-DD, without time and time zone",
    )
    latest = np.datetime64(latest_day(), "D")
    yield "date", days > latest, "lies in the future", "correct or remove the row"
    yield "date", days < EARLIEST_DAY, "lies before 1900", "correct or remove the row"
    codes, names = pd.factorize(file.instruments)
    fit = np.array([bool(INSTRUMENT_FORM.fullmatch(name)) for name in names] + [False])
    yield (
        "instrument",
        ~fit[codes],
        "is missing or not a fit name",
        "use 1 to 32 of A-Z a-z 0-9 _ . - ^, no dot first",
    )
    taken = np.array([name in READ_AS_MISSING for name in names] + [False])
    yield (
        "instrument",
        taken[codes],
        "is a word that Qlib reads as a missing value",
        "rename the instrument, e.g. with an underscore at its end",
    )


def _value_rules(file: BarFile) -> Iterator[Rule]:
    values = file.values
    for name in PRICES:
        yield from _positive(file, name)
    yield from _finite(file, "volume")
    yield "volume", values["volume"] < 0, "is negative", "correct or remove the row"
    if "factor" in values:
        yield from _positive(file, "factor")
    if "amount" in values:
        yield from _finite(file, "amount")
        yield "amount", values["amount"] < 0, "is negative", "correct or remove the row"
    if "vwap" in values:
        # A day without trades has no average price.
        bad = ~(np.isfinite(values["vwap"]) & (values["vwap"] > 0)) & (values["volume"] != 0)
        yield "vwap", bad, "is not a number above zero", "correct it or leave the column out"
    if "change" in values:
        # NaN says that there is none: it is made then. Text that is no number says nothing.
        unread = np.isnan(values["change"]) & file.has_text("change")
        bad = np.isinf(values["change"]) | unread
        yield "change", bad, "is not a finite number", "correct it or leave the cell empty"
    yield from _consistent(values)


def _finite(file: BarFile, name: str) -> Iterator[Rule]:
    bad = ~np.isfinite(file.values[name])
    yield (
        name,
        bad,
        "is missing or not a finite number",
        "correct it, or remove the row: a gap is fine",
    )


def _positive(file: BarFile, name: str) -> Iterator[Rule]:
    yield from _finite(file, name)
    value = file.values[name]
    bad = np.isfinite(value) & (value <= 0)
    yield name, bad, "must be above zero", "correct or remove the row"


def _consistent(values: dict[str, Any]) -> Iterator[Rule]:
    prices = np.column_stack([values[name] for name in PRICES])
    usable = (np.isfinite(prices) & (prices > 0)).all(axis=1)
    low, high = values["low"], values["high"]
    below = usable & (high < prices.max(axis=1) * (1 - PRICE_TOLERANCE))
    yield "high", below, "is below open, low or close", "correct or remove the row"
    above = usable & (low > prices.min(axis=1) * (1 + PRICE_TOLERANCE))
    yield "low", above, "is above open, high or close", "correct or remove the row"
    factor = values.get("factor", np.ones(len(prices)))
    with np.errstate(all="ignore"):
        adjusted = prices * factor[:, None]
        shares = values["volume"] / factor
    stored = ((adjusted >= STORE_MIN) & (adjusted <= STORE_MAX)).all(axis=1)
    stored &= shares <= STORE_MAX
    sound = usable & (factor > 0) & np.isfinite(factor) & (values["volume"] >= 0)
    wide = sound & np.isfinite(values["volume"]) & ~stored
    column = "factor" if "factor" in values else "close"
    yield column, wide, "makes values beyond what the store can hold", "correct or remove the row"


def _between_rows(files: Sequence[BarFile], bad: Sequence[Mask]) -> Iterator[Finding]:
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "name": one.instruments,
                    "day": one.days.astype("datetime64[s]"),
                    "file": number,
                    "position": np.arange(len(one.rows)),
                    "bad": mask,
                    "benchmark": one.is_benchmark,
                }
            )
            for number, (one, mask) in enumerate(zip(files, bad, strict=True))
        ],
        ignore_index=True,
    ).dropna(subset=["name", "day"])
    codes, names = pd.factorize(frame["name"])
    frame["code"] = codes
    yield from _colliding_names(frame, list(names))
    yield from _in_both_parts(frame, len(names))
    yield from _repeated_keys(frame)


def _by_file(rows: pd.DataFrame, column: str, message: str, cure: str) -> Iterator[Finding]:
    for number, part in rows.groupby("file", sort=True):
        positions = np.sort(part["position"].to_numpy())
        yield Finding(int(number), column, positions, message, cure)


def _colliding_names(frame: pd.DataFrame, names: list[str]) -> Iterator[Finding]:
    """Names that differ only by case share one folder of Qlib's store; the commonest stays."""
    counts = np.bincount(frame["code"], minlength=len(names))
    kept: dict[str, int] = {}
    for code in sorted(range(len(names)), key=lambda code: (-counts[code], code)):
        first = kept.setdefault(names[code].lower(), code)
        if first != code:
            message = (
                f"differs from {names[first]!r} only by its case, which Qlib's store can't hold"
            )
            rows = frame[frame["code"] == code]
            yield from _by_file(rows, "instrument", message, "use one spelling")


def _in_both_parts(frame: pd.DataFrame, count: int) -> Iterator[Finding]:
    in_benchmark = np.bincount(frame.loc[frame["benchmark"], "code"], minlength=count) > 0
    twice = frame[~frame["benchmark"] & in_benchmark[frame["code"]]]
    message = "is in a benchmark file too, and a benchmark is not part of the market"
    yield from _by_file(twice, "instrument", message, "keep it in one of the files")


def _repeated_keys(frame: pd.DataFrame) -> Iterator[Finding]:
    """Of rows with the same day and instrument the first sound one stays."""
    ordered = frame.sort_values(["bad", "file", "position"], kind="stable")
    repeated = ordered[ordered.duplicated(["code", "day"], keep="first")]
    message = "is there for this instrument already: a second bar of one day"
    yield from _by_file(repeated, "date", message, "keep one of the two rows")

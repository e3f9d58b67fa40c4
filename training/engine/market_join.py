"""Joins the kept rows of all files into one market: adjusted, sorted, on one calendar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .market_bars import PRICES, BarFile, Floats, MarketError

VWAP_FROM_FILE = "as given, times factor; the close on days without trades"
VWAP_FROM_AMOUNT = "amount / volume, times factor; the close on days without trades"
VWAP_TYPICAL = "not in the files: (high + low + close) / 3 stands in for it"


@dataclass(frozen=True)
class Bars:
    """Checked bars, sorted by instrument and day, unique, adjusted.

    names: sorted; starts: where each name's rows begin, one more at the end.
    places: each row's index into the calendar. values: field → float32, as stored.
    """

    calendar: np.ndarray[Any, np.dtype[np.datetime64]]
    names: tuple[str, ...]
    benchmarks: tuple[str, ...]
    starts: np.ndarray[Any, np.dtype[np.int64]]
    places: np.ndarray[Any, np.dtype[np.int64]]
    values: dict[str, np.ndarray[Any, np.dtype[np.float32]]]
    vwap: str
    warnings: tuple[str, ...] = ()

    def span(self, number: int) -> tuple[str, str]:
        """First and last day of an instrument, ISO."""
        first, last = self.places[self.starts[number]], self.places[self.starts[number + 1] - 1]
        return str(self.calendar[first]), str(self.calendar[last])

    @property
    def rows(self) -> int:
        return len(self.places)


def assemble(files: Sequence[BarFile], keep: Sequence[np.ndarray[Any, np.dtype[np.bool_]]]) -> Bars:
    """Join the kept rows of all files into one adjusted market.

    Raises: MarketError, if nothing is left, a benchmark shares no day with the market, or amounts
    and volumes are in different units.
    """
    frame = pd.concat([_frame(one, mask) for one, mask in zip(files, keep, strict=True)])
    stocks = ~frame["benchmark"].to_numpy()
    if not stocks.any():
        raise MarketError("No bar is left to import.")
    calendar = np.unique(frame["day"].to_numpy()[stocks])
    frame, warnings = _on_calendar(frame, calendar)
    frame = frame.sort_values(["instrument", "day"], kind="stable", ignore_index=True)
    _check_amount_units(frame)
    names, starts = np.unique(frame["instrument"].to_numpy().astype(str), return_index=True)
    values, vwap = _fields(frame)
    benchmarks = frame.loc[frame["benchmark"], "instrument"].unique()
    return Bars(
        calendar=calendar.astype("datetime64[D]"),
        names=tuple(map(str, names)),
        benchmarks=tuple(map(str, benchmarks)),
        starts=np.append(starts, len(frame)),
        places=np.searchsorted(calendar, frame["day"].to_numpy()),
        values=values,
        vwap=vwap,
        warnings=tuple(warnings),
    )


def _frame(file: BarFile, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "instrument": file.instruments,
        "day": file.days.astype("datetime64[s]"),
        "benchmark": file.is_benchmark,
        "amount": np.nan,
        "vwap": np.nan,
        "change": np.nan,
        "factor": 1.0,
        **file.values,
        # By file: one may give amounts where another gives none.
        "has_amount": "amount" in file.values,
        "has_vwap": "vwap" in file.values,
    }
    return pd.DataFrame(columns, index=np.arange(len(file.rows)))[mask]


def _on_calendar(
    frame: pd.DataFrame, calendar: np.ndarray[Any, np.dtype[np.datetime64]]
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out benchmark bars on days when no stock traded, and say so."""
    on = np.isin(frame["day"].to_numpy(), calendar)
    warnings = []
    for name, part in frame[frame["benchmark"]].groupby("instrument"):
        shared = int(on[frame["instrument"].to_numpy() == name].sum())
        if not shared:
            raise MarketError(
                f"Benchmark {name} has no day in common with the market, which has bars from "
                f"{str(calendar[0])[:10]} to {str(calendar[-1])[:10]}; give bars of the same time."
            )
        if shared < len(calendar):
            lacking = len(calendar) - shared
            warnings.append(f"Benchmark {name} lacks {lacking} of {len(calendar)} trading days.")
        if shared < len(part):
            extra = len(part) - shared
            warnings.append(f"Left out {extra} bars of {name} on days without any stock's bar.")
    return frame[on], warnings


def _check_amount_units(frame: pd.DataFrame) -> None:
    traded = frame[frame["has_amount"] & (frame["volume"] > 0) & (frame["amount"] > 0)]
    if traded.empty:
        return
    ratio = float((traded["amount"] / traded["volume"] / traded["close"]).median())
    if not 0.5 < ratio < 2.0:
        raise MarketError(
            f"amount / volume is about {ratio:.4g} times the close, so the two are in different "
            "units; give the amount in the currency of the prices and the volume in shares."
        )


def _fields(
    frame: pd.DataFrame,
) -> tuple[dict[str, np.ndarray[Any, np.dtype[np.float32]]], str]:
    """Adjusted fields as Qlib wants them: price × factor, volume / factor."""
    factor = frame["factor"].to_numpy()
    vwap, how = _vwap(frame)
    fields: dict[str, Floats] = {name: frame[name].to_numpy() * factor for name in PRICES}
    fields["volume"] = frame["volume"].to_numpy() / factor
    fields["factor"] = factor
    fields["vwap"] = vwap * factor
    fields["change"] = _change(frame, fields["close"])
    if frame["has_amount"].any():
        fields["amount"] = frame["amount"].to_numpy()
    return {name: values.astype(np.float32) for name, values in fields.items()}, how


def _vwap(frame: pd.DataFrame) -> tuple[Floats, str]:
    typical = frame[["high", "low", "close"]].to_numpy().sum(axis=1) / 3
    close, volume = frame["close"].to_numpy(), frame["volume"].to_numpy()
    given, counted = frame["has_vwap"].to_numpy(), frame["has_amount"].to_numpy()
    traded = (volume > 0) & (frame["amount"].to_numpy() > 0)
    from_amount = np.divide(
        frame["amount"].to_numpy(), volume, out=close.copy(), where=counted & traded
    )
    from_file = np.where(volume > 0, frame["vwap"].to_numpy(), close)
    made: Floats = np.where(given, from_file, np.where(counted, from_amount, typical))
    kinds = ((VWAP_FROM_FILE, given), (VWAP_FROM_AMOUNT, ~given & counted))
    hows = [how for how, rows in (*kinds, (VWAP_TYPICAL, ~given & ~counted)) if rows.any()]
    return made, "; or, by file: ".join(hows)


def _change(frame: pd.DataFrame, close: Floats) -> Floats:
    """The given change, else close over the close of the instrument's bar before, less 1."""
    before = pd.Series(close).groupby(frame["instrument"].to_numpy()).shift().to_numpy()
    given = frame["change"].to_numpy()
    change: Floats = np.where(np.isfinite(given), given, close / before - 1)
    return change

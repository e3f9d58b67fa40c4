"""A Qlib store of the real S&P 500 bars in the folder MARKET_DATA: 50 names, 2013 to 2018."""

from pathlib import Path

import numpy as np
import pandas as pd

FUTURE_DAYS = 20


def write_store(market_data: Path, store: Path) -> None:
    """Prices adjusted by `factor`; `^GSPC` is an instrument outside the market `all`."""
    bars = _read(market_data / "sp500_top50.parquet")
    index = _read(market_data / "benchmark.parquet").query("instrument == '^GSPC'")
    calendar = pd.DatetimeIndex(sorted(bars["date"].unique()))
    future = pd.bdate_range(calendar[-1] + pd.Timedelta(days=1), periods=FUTURE_DAYS)
    _write_lines(store / "calendars/day.txt", _dates(calendar))
    _write_lines(store / "calendars/day_future.txt", _dates(calendar.append(future)))
    spans = [
        _write_instrument(store, name, rows, calendar) for name, rows in bars.groupby("instrument")
    ]
    _write_lines(store / "instruments/all.txt", spans)
    _write_instrument(store, "^GSPC", index, calendar)


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    table["instrument"] = table["instrument"].astype(str)
    table["date"] = pd.to_datetime(table["date"])
    return table


def _write_instrument(
    store: Path, name: str, rows: pd.DataFrame, calendar: pd.DatetimeIndex
) -> str:
    """Returns its line for a market file."""
    rows = rows.set_index("date").sort_index()
    factor = rows.get("factor", pd.Series(1.0, index=rows.index))
    fields = rows[["open", "high", "low", "close"]].mul(factor, axis=0)
    fields["volume"], fields["factor"] = rows["volume"] / factor, factor
    first, last = rows.index[0], rows.index[-1]
    fields = fields.reindex(calendar[(calendar >= first) & (calendar <= last)])
    fields["change"] = fields["close"].pct_change(fill_method=None)
    folder = store / "features" / name.lower()
    folder.mkdir(parents=True)
    for field, values in fields.items():
        data = np.concatenate([[calendar.get_loc(first)], values.to_numpy()]).astype("<f4")
        data.tofile(folder / f"{field}.day.bin")
    return f"{name}\t{first:%Y-%m-%d}\t{last:%Y-%m-%d}"


def _dates(days: pd.DatetimeIndex) -> list[str]:
    return [f"{day:%Y-%m-%d}" for day in days]


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))

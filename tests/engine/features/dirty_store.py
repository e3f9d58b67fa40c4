"""A made Qlib store in which everything is wrong that can be wrong in one, reproducibly.

Gaps, different gaps by field, zeros, infinities, ties, flat runs, late starts, early ends, listings
in two periods, a field that some instruments lack and one that all lack, fields with other days.
"""

from pathlib import Path

import numpy as np
import pandas as pd

FIELDS = ("open", "high", "low", "close", "volume")
# Of two instruments only, and no prices: a field that the others lack.
RARE = "rare"
# Of every instrument, but it begins later and ends earlier than the others in every fourth.
LATE = "late"


def write_dirty_store(
    folder: Path, *, instruments: int = 24, days: int = 420, seed: int = 0
) -> Path:
    """Returns the folder; 24 instruments and 420 days are about 9,000 rows."""
    rng = np.random.default_rng(seed)
    calendar = pd.bdate_range("2015-01-01", periods=days)
    _write(folder / "calendars/day.txt", [f"{day:%Y-%m-%d}" for day in calendar])
    listing = []
    for k in range(instruments):
        name = f"SYM{k:02d}" if k != 5 else "CON"
        start = int(rng.integers(1, days // 3)) if k % 3 == 0 else 0
        end = days - int(rng.integers(1, days // 3)) if k % 4 == 0 else days
        for field, values in _fields(k, days, rng).items():
            _write_field(folder, name, field, start, values[start:end])
        if k in (1, 2):
            _write_field(folder, name, RARE, start, rng.normal(size=end - start))
        cut = int(k % 4 == 3) * 20
        late = rng.normal(100, 5, size=end - start - 2 * cut)
        _write_field(folder, name, LATE, start + cut, late)
        listing += _periods(name, k, calendar)
    _write(folder / "instruments/all.txt", listing)
    return folder


def _fields(k: int, days: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, size=days)))
    prices = {"open": close * np.exp(rng.normal(0, 0.01, size=days)), "close": close}
    prices["high"] = np.maximum(prices["open"], close) * (1 + abs(rng.normal(0, 0.01, size=days)))
    prices["low"] = np.minimum(prices["open"], close) * (1 - abs(rng.normal(0, 0.01, size=days)))
    prices["volume"] = np.exp(rng.normal(14, 1, size=days))
    gap = rng.random(days) < 0.04
    rare = rng.random(days) < 0.02
    for field, values in prices.items():
        if k % 8 == 1:
            values[gap] = np.nan
        if k % 8 == 2:
            values[rng.random(days) < 0.05] = np.nan
        if k % 8 == 3 and field == "volume":
            values[rare] = 0
        if k % 8 == 4:
            values[days // 2 : days // 2 + days // 6] = values[days // 2]
        if k % 8 == 5:
            values[:] = np.round(values / 5) * 5
        if k % 8 == 6 and field in ("close", "open"):
            values[rare] = 0
        if k % 8 == 7 and field in ("close", "volume"):
            values[rare] = np.inf
    if k == 9:
        prices["close"][:] = np.nan
    return {field: prices[field] for field in FIELDS}


def _periods(name: str, k: int, calendar: pd.DatetimeIndex) -> list[str]:
    whole = [(calendar[0], calendar[-1])]
    n = len(calendar)
    split = [(calendar[n // 14], calendar[n // 3]), (calendar[n // 2], calendar[-10])]
    return [f"{name}\t{a:%Y-%m-%d}\t{b:%Y-%m-%d}" for a, b in (split if k % 7 == 6 else whole)]


def _write_field(folder: Path, name: str, field: str, start: int, values: np.ndarray) -> None:
    file_name = "_qlib_con" if name == "CON" else name.lower()
    path = folder / "features" / file_name / f"{field}.day.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate([[start], values]).astype("<f4").tofile(path)


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))

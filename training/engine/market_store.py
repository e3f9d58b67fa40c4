"""Writes checked bars as a version of Qlib's store: calendar, instruments, features, manifest.

A version is made beside its place, under a lock, and moved there by one rename: readers see all of
it or nothing. It is never changed afterwards.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .market_bars import PRICES, BarFile, Floats, MarketError, Progress

STORE_FORMAT = "1"
"""Part of the fingerprint: a new way of writing makes new versions."""
FUTURE_DAYS = 20
PARTIAL = ".partial-"
# Names that Qlib itself stores under another folder (its code_to_fname).
DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))]
)
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


@dataclass(frozen=True)
class About:
    """What the manifest tells beside the bars."""

    name: str
    region: str
    synthetic: bool = False
    description: str = ""
    source: Sequence[Mapping[str, Any]] = ()
    markets: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    """market → (name, first day, last day), several spans of a name allowed."""


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
                f"Benchmark {name} has no day in common with the market ({str(calendar[0])[:10]} to "
                f"{str(calendar[-1])[:10]}); give bars of the same time."
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
    made = np.where(given, from_file, np.where(counted, from_amount, typical))
    kinds = ((VWAP_FROM_FILE, given), (VWAP_FROM_AMOUNT, ~given & counted))
    hows = [how for how, rows in (*kinds, (VWAP_TYPICAL, ~given & ~counted)) if rows.any()]
    return made, "; or, by file: ".join(hows)


def _change(frame: pd.DataFrame, close: Floats) -> Floats:
    """The given change, else close over the close of the instrument's bar before, less 1."""
    before = pd.Series(close).groupby(frame["instrument"].to_numpy()).shift().to_numpy()
    given = frame["change"].to_numpy()
    return np.where(np.isfinite(given), given, close / before - 1)


@contextmanager
def only_import(place: Path) -> Iterator[None]:
    """Hold the place of a market's versions alone; what killed imports left there is removed.

    Raises: MarketError, if another import of this market runs.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MarketError(
                f"Another import of {place.name!r} is running; wait for its end."
            ) from error
        for left in place.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
        yield


def write_version(
    bars: Bars, about: About, *, out: Path, dropped: str = "", progress: Progress
) -> Path:
    """Write the store and move it to `<out>/<name>/<version>`; the same data has the same version.

    dropped: text of `dropped_rows.csv`, none if empty. Returns: the manifest's path.
    Raises: MarketError, OSError. Hold `only_import(out / name)` around it.
    """
    place = out / about.name
    partial = place / f"{PARTIAL}{os.getpid()}"
    try:
        partial.mkdir()
        fingerprint = _write_store(bars, about, partial, progress)
        version = place / fingerprint[:16]
        if not version.exists():
            if dropped:
                (partial / "dropped_rows.csv").write_text(dropped, encoding="utf-8")
            manifest = _manifest(bars, about, fingerprint)
            text = json.dumps(manifest, ensure_ascii=False, allow_nan=False)
            (partial / "manifest.json").write_text(text, encoding="utf-8")
            os.sync()
            partial.rename(version)
            _sync_directory(place)
        return version / "manifest.json"
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_store(bars: Bars, about: About, root: Path, progress: Progress) -> str:
    """Write all of the store but the manifest. Returns: the sha256 of what is in it."""
    digest = hashlib.sha256(f"{STORE_FORMAT}\n{about.region}\n{about.synthetic}\n".encode())
    for path, text in sorted(_texts(bars, about).items()):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="ascii")
        digest.update(f"{path}\n{text}\n".encode())
    for number, name in enumerate(bars.names):
        folder = root / "features" / _folder(name)
        folder.mkdir(parents=True)
        for field_name, content in _bins(bars, number):
            digest.update(f"{name}/{field_name}\n".encode())
            digest.update(content)
            (folder / f"{field_name}.day.bin").write_bytes(content)
        progress(number + 1, len(bars.names), "Writing")
    return digest.hexdigest()


def _folder(name: str) -> str:
    lowered = name.lower()
    return f"_qlib_{lowered}" if lowered in DEVICES else lowered


def _bins(bars: Bars, number: int) -> Iterator[tuple[str, bytes]]:
    """Each field's file: the index of the first day, then a value a day, NaN where there is none."""
    rows = slice(bars.starts[number], bars.starts[number + 1])
    places = bars.places[rows]
    content = np.empty(places[-1] - places[0] + 2, dtype="<f4")
    for name, values in bars.values.items():
        content[0] = places[0]
        content[1:] = np.nan
        content[1 + places - places[0]] = values[rows]
        yield name, content.tobytes()


def _texts(bars: Bars, about: About) -> dict[str, str]:
    """Calendars and instrument lists: path in the store → content."""
    days = [str(day) for day in bars.calendar]
    future = pd.bdate_range(pd.Timestamp(days[-1]) + pd.Timedelta(days=1), periods=FUTURE_DAYS)
    spans = {name: bars.span(number) for number, name in enumerate(bars.names)}
    market = [(name, *span) for name, span in spans.items() if name not in bars.benchmarks]
    lists: dict[str, Sequence[tuple[str, str, str]]] = {"all": market, **about.markets}
    if bars.benchmarks:
        lists["benchmark"] = [(name, *spans[name]) for name in bars.benchmarks]
    texts = {
        "calendars/day.txt": _lines(days),
        "calendars/day_future.txt": _lines([*days, *future.strftime("%Y-%m-%d")]),
    }
    for name, entries in lists.items():
        texts[f"instruments/{name}.txt"] = _lines("\t".join(entry) for entry in entries)
    return texts


def _lines(items: Any) -> str:
    return "".join(f"{item}\n" for item in items)


def _manifest(bars: Bars, about: About, fingerprint: str) -> dict[str, Any]:
    days = [str(day) for day in bars.calendar]
    spans = {name: bars.span(number) for number, name in enumerate(bars.names)}
    market = {name: span for name, span in spans.items() if name not in bars.benchmarks}
    named = {
        name: sorted({entry[0] for entry in entries}) for name, entries in about.markets.items()
    }
    return {
        "name": about.name,
        "description": about.description,
        "region": about.region,
        "freq": "day",
        "synthetic": about.synthetic,
        "version": fingerprint[:16],
        "fingerprint": fingerprint,
        "rows": bars.rows,
        "first_day": days[0],
        "last_day": days[-1],
        "days": days,
        "fields": sorted(bars.values),
        "instruments": market,
        "markets": {"all": list(market), **named},
        "benchmarks": list(bars.benchmarks),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "source": list(about.source),
        "vwap": bars.vwap,
        "adjusted": bool((bars.values["factor"] != 1.0).any()),
        "warnings": list(bars.warnings),
    }

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

from .market_bars import MarketError, Progress
from .market_join import Bars

STORE_FORMAT = "1"
"""Part of the fingerprint: a new way of writing makes new versions."""
FUTURE_DAYS = 20
PARTIAL = ".partial-"
# Names that Qlib itself stores under another folder (its code_to_fname).
DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))]
)


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
    """Each field's file: the index of the first day, then a value a day, NaN where none is."""
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
    counts = dict(zip(bars.names, np.diff(bars.starts).tolist(), strict=True))
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
        "instrument_rows": {name: counts[name] for name in market},
        "markets": {"all": list(market), **named},
        "benchmarks": list(bars.benchmarks),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "source": list(about.source),
        "vwap": bars.vwap,
        "adjusted": bool((bars.values["factor"] != 1.0).any()),
        "warnings": list(bars.warnings),
    }

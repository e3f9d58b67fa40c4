"""Scores and positions as a small SQLite file: the web pages through them by day and instrument.

One file for the life of the task, written once and never changed. Days are ISO texts. Both tables
lie in the order (day, instrument), so that a day is one stretch of the file, and an instrument one
look-up per day.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FILE = "outcomes.sqlite"
SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = MEMORY;
CREATE TABLE days (id INTEGER PRIMARY KEY, day TEXT NOT NULL UNIQUE);
CREATE TABLE instruments (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE scores (
    day INTEGER, instrument INTEGER, score REAL, label REAL, rank INTEGER,
    PRIMARY KEY (day, instrument)
) WITHOUT ROWID;
CREATE TABLE positions (
    day INTEGER, instrument INTEGER, amount REAL, price REAL, weight REAL,
    PRIMARY KEY (day, instrument)
) WITHOUT ROWID;
CREATE TABLE accounts (day INTEGER PRIMARY KEY, cash REAL, value REAL);
"""
_NOT_INSTRUMENTS = ("cash", "now_account_value")


def write(
    path: Path,
    *,
    prediction: pd.DataFrame,
    label: pd.DataFrame | None,
    positions: Mapping[Any, Any] | None,
) -> None:
    """Write the file.

    prediction: Qlib's pred.pkl, index (datetime, instrument) with the levels in any order; label:
    label.pkl, forward returns; positions: positions_normal_*.pkl, a Qlib position by day.
    """
    scores = _scores(prediction, label)
    held = list(_held(positions or {}))
    accounts = list(_accounts(positions or {}))
    scored_days, scored_names = (_texts(level) for level in scores.index.levels)
    days = _numbered([*scored_days, *(day for day, *_ in accounts)])
    names = _numbered([*scored_names, *(name for _, name, *_ in held)])
    rows = _rows(scores, [days[day] for day in scored_days], [names[one] for one in scored_names])
    with closing(sqlite3.connect(path)) as file:
        file.executescript(SCHEMA)
        with file:
            file.executemany("INSERT INTO days (day, id) VALUES (?, ?)", days.items())
            file.executemany("INSERT INTO instruments (name, id) VALUES (?, ?)", names.items())
            file.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?)", rows)
            file.executemany(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?)",
                ((days[day], names[name], *rest) for day, name, *rest in held),
            )
            file.executemany(
                "INSERT INTO accounts VALUES (?, ?, ?)",
                ((days[day], *rest) for day, *rest in accounts),
            )


def holdings_series(positions: Mapping[Any, Any]) -> dict[str, Any]:
    """By day: how many instruments are held, and the share of the account that is cash."""
    accounts = list(_accounts(positions))
    held = [len(_instruments(position)) for position in positions.values()]
    shares = [cash / value if cash is not None and value else None for _, cash, value in accounts]
    return {"days": [day for day, *_ in accounts], "count": held, "cash_share": shares}


# ── Scores ──────────────────────────────────────────────────────────────────────────────


def _scores(prediction: pd.DataFrame, label: pd.DataFrame | None) -> pd.DataFrame:
    """Score, label and rank of the day (1 is the highest); sorted by day and instrument."""
    score = prediction["score"] if "score" in prediction else prediction.iloc[:, 0]
    score = score.reorder_levels(["datetime", "instrument"]).sort_index().dropna()
    raw = np.nan
    if label is not None and not label.empty:
        raw = label.iloc[:, 0].reorder_levels(["datetime", "instrument"]).reindex(score.index)
    rank = score.groupby(level="datetime").rank(method="first", ascending=False)
    table = pd.DataFrame({"score": score, "label": raw, "rank": rank.astype(int)})
    table.index = table.index.remove_unused_levels()
    return table


def _rows(scores: pd.DataFrame, days: list[int], names: list[int]) -> Iterator[tuple[Any, ...]]:
    """days, names: the numbers of the index's levels, by their place."""
    at_day, at_name = scores.index.codes
    label = [None if math.isnan(value) else value for value in scores["label"].tolist()]
    return zip(
        np.array(days, dtype=int)[at_day].tolist(),
        np.array(names, dtype=int)[at_name].tolist(),
        scores["score"].tolist(),
        label,
        scores["rank"].tolist(),
        strict=True,
    )


def _texts(level: pd.Index) -> list[str]:
    return [f"{one:%Y-%m-%d}" if isinstance(one, pd.Timestamp) else str(one) for one in level]


def _numbered(values: list[str]) -> dict[str, int]:
    return {value: number for number, value in enumerate(sorted(set(values)), start=1)}


# ── Positions ───────────────────────────────────────────────────────────────────────────


def _held(positions: Mapping[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Day, instrument, amount, price, weight (a share of the account)."""
    for day, position in positions.items():
        for name, held in _instruments(position).items():
            figures = (_finite(held.get(what)) for what in ("amount", "price", "weight"))
            yield (f"{day:%Y-%m-%d}", str(name), *figures)


def _accounts(positions: Mapping[Any, Any]) -> Iterator[tuple[str, float | None, float | None]]:
    """Day, cash, value of the whole account."""
    for day, position in positions.items():
        cash, value = (position.position.get(name) for name in _NOT_INSTRUMENTS)
        yield f"{day:%Y-%m-%d}", _finite(cash), _finite(value)


def _instruments(position: Any) -> dict[str, Mapping[str, Any]]:
    """What Qlib's Position holds, without its cash and value."""
    inside = position.position.items()
    return {name: held for name, held in inside if name not in _NOT_INSTRUMENTS}


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None

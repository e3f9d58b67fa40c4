"""What a training would have left, small and worked out by hand."""

import json
import math
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from itertools import accumulate

from tests.factories import make_task
from training import archive
from training.states import Status

TEST_2018 = {"test_from": date(2018, 1, 1), "test_to": date(2018, 12, 31)}


def weekdays(count, first=date(2018, 1, 1)):
    span = (first + timedelta(days=number) for number in range(count * 2))
    return [day.isoformat() for day in span if day.weekday() < 5][:count]


def report_of(excess, *, ic=None):
    """A report whose daily excess returns and ICs are given; the other series follow."""
    days = weekdays(len(excess))
    ic = list(ic if ic is not None else excess)
    total = list(accumulate(excess))
    peak = list(accumulate(total, max))
    portfolio = {
        "days": days,
        "return_with_cost": [2 * one for one in total],
        "return_without_cost": [2 * one for one in total],
        "benchmark": total,
        "excess_with_cost": total,
        "excess_without_cost": total,
        "drawdown_with_cost": [a - b for a, b in zip(total, peak, strict=True)],
        "drawdown_without_cost": [a - b for a, b in zip(total, peak, strict=True)],
        "turnover": [0.1] * len(days),
    }
    by_month = {"months": ["2018-01"], "ic": [0.0], "rank_ic": [0.0]}
    return {
        "version": 1,
        "portfolio": portfolio,
        "ic": {"days": days, "ic": ic, "rank_ic": ic, "by_month": by_month},
        "groups": {
            "days": days,
            "groups": {str(number): total for number in range(1, 6)},
            "long_short": total,
            "long_average": total,
        },
        "feature_importance": {"kind": "importance", "features": ["A"], "values": [1.0]},
    }


def waves(count, *, size=0.01):
    """Daily returns that go up and down."""
    return [size * math.sin(number / 3) for number in range(count)]


def completed(owner, *, report=None, sha="0" * 64, metrics=None, **fields):
    """A completed task that left a report."""
    result = {
        "metrics": metrics or {"ic": 0.03, "information_ratio": 1.1},
        "artifacts": [{"path": "report.json", "bytes": 1, "sha256": sha}],
        "data": {"dataset": "demo", "fingerprint": "f" * 64},
    }
    task = make_task(owner, status=Status.COMPLETED, result=result, **fields)
    folder = archive.folder(task)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report or report_of(waves(300))))
    return task


def keep_outcomes(task, *, scores, positions=(), days=1):
    """The same rows on each day. scores: [name, score, label]; positions: [name, amount, price,
    weight]."""
    folder = archive.folder(task)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({row[0] for row in [*scores, *positions]})
    ranked = sorted(scores, key=lambda row: -row[1])
    with closing(sqlite3.connect(folder / "outcomes.sqlite")) as file, file:
        file.executescript(SCHEMA)
        file.executemany("INSERT INTO days VALUES (?, ?)", list(enumerate(weekdays(days), 1)))
        file.executemany("INSERT INTO instruments VALUES (?, ?)", list(enumerate(names, 1)))
        for day in range(1, days + 1):
            file.execute("INSERT INTO accounts VALUES (?, 100, 1000)", [day])
            for rank, (name, score, label) in enumerate(ranked, start=1):
                row = [day, names.index(name) + 1, score, label, rank]
                file.execute("INSERT INTO scores VALUES (?, ?, ?, ?, ?)", row)
            for name, *rest in positions:
                row = [day, names.index(name) + 1, *rest]
                file.execute("INSERT INTO positions VALUES (?, ?, ?, ?, ?)", row)


# As `engine/outcomes.py` has it, which needs pandas; tests/engine/test_outcomes.py reads a file
# of the engine's own with the code of the web.
SCHEMA = """
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

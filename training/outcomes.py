"""Scores and positions of a completed task, by day and instrument, out of its SQLite file.

The training wrote the file (`engine/outcomes.py`); it is opened to be read, and never changes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from . import archive
from .errors import NotFinished, NotFound
from .models import TrainingTask
from .states import Status

FILE = "outcomes.sqlite"

SCORES = ("date", "instrument", "score", "label", "rank")
POSITIONS = ("date", "instrument", "amount", "price", "weight")

# The order of the tables follows the question: a day is one stretch of the file, an instrument
# one look-up per day. CROSS JOIN keeps SQLite from choosing another order.
_BY_DAY = """
    FROM days AS d CROSS JOIN {table} AS t ON t.day = d.id
    CROSS JOIN instruments AS i ON i.id = t.instrument
"""
_BY_INSTRUMENT = """
    FROM instruments AS i CROSS JOIN days AS d
    CROSS JOIN {table} AS t ON t.day = d.id AND t.instrument = i.id
"""
_TABLES = {
    "scores": ("t.score, t.label, t.rank", "t.rank"),
    "positions": ("t.amount, t.price, t.weight", "t.weight DESC, i.name"),
}


@dataclass(frozen=True)
class Slice:
    """Some rows, in their order, and whether more follow.

    columns: names of a row's values; date: the only day of the rows, if they are of one.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool
    date: str | None


def scores(
    task: TrainingTask,
    *,
    date: str | None,
    instrument: str | None,
    offset: int = 0,
    limit: int | None = None,
) -> Slice:
    """Predictions: of a day, the best first; of an instrument, by day; else of the newest day.

    score: the model's; label: the forward return that came, null where unknown; rank: of the day,
    1 is the highest score; date: ISO. Raises: NotFinished, NotFound.
    """
    return _read(task, "scores", SCORES, (date, instrument), offset=offset, limit=limit)


def positions(
    task: TrainingTask,
    *,
    date: str | None,
    instrument: str | None,
    offset: int = 0,
    limit: int | None = None,
) -> Slice:
    """What the backtest held at the end of a day, the largest first; or an instrument, by day.

    weight: a share of the account. Raises: NotFinished, NotFound.
    """
    return _read(task, "positions", POSITIONS, (date, instrument), offset=offset, limit=limit)


def account(task: TrainingTask, date: str) -> dict[str, float | None] | None:
    """Cash and value of the account at the end of the day. Raises: NotFinished, NotFound."""
    with _opened(task) as file:
        row = file.execute(
            "SELECT a.cash, a.value FROM accounts AS a JOIN days AS d ON d.id = a.day"
            " WHERE d.day = ?",
            [date],
        ).fetchone()
    return {"cash": row[0], "value": row[1]} if row else None


def days(task: TrainingTask) -> list[str]:
    """All days that there are scores or positions of. Raises: NotFinished, NotFound."""
    with _opened(task) as file:
        return [day for (day,) in file.execute("SELECT day FROM days ORDER BY id")]


def _read(
    task: TrainingTask,
    table: str,
    columns: tuple[str, ...],
    asked: tuple[str | None, str | None],
    *,
    offset: int,
    limit: int | None,
) -> Slice:
    date, instrument = asked
    values, order = _TABLES[table]
    with _opened(task) as file:
        if date is None and instrument is None:
            date = _newest(file, table)
        wanted = {"d.day": date, "i.name": instrument}
        given = {column: value for column, value in wanted.items() if value is not None}
        tables = (_BY_INSTRUMENT if date is None else _BY_DAY).format(table=table)
        # Only names of our own are put into the text; what was asked is bound.
        where = " AND ".join(f"{column} = ?" for column in given) or "0"
        query = (
            f"SELECT d.day, i.name, {values} {tables} WHERE {where}"
            f" ORDER BY {order if date else 'd.id'} LIMIT ? OFFSET ?"
        )
        most = -1 if limit is None else limit + 1
        rows = file.execute(query, [*given.values(), most, offset]).fetchall()
    cut = rows if limit is None else rows[:limit]
    return Slice(columns, cut, len(cut) < len(rows), date)


def _newest(file: sqlite3.Connection, table: str) -> str | None:
    query = f"SELECT day FROM days WHERE id = (SELECT max(day) FROM {table})"  # noqa: S608
    row = file.execute(query).fetchone()
    return row[0] if row else None


@contextmanager
def _opened(task: TrainingTask) -> Iterator[sqlite3.Connection]:
    """The task's file. Raises: NotFinished, NotFound."""
    if not task.is_final:
        raise NotFinished(f"{task.id} is {task.status}; predictions are kept when it is completed")
    path = archive.folder(task) / FILE
    if task.status != Status.COMPLETED or not path.is_file():
        raise NotFound(f"{task.id} has left no predictions that can be looked through")
    # Immutable: without locks, and without a journal beside the file.
    address = f"file:{quote(str(path))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as file:
        file.execute("PRAGMA trusted_schema = OFF")
        yield file

"""A frame as one table of memory: columns first, each column in one piece."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from training.engine.features.columns import Table


def table_of(frame: pd.DataFrame) -> Table | None:
    """The frame's own memory as (column, row), to be read and written; None if it is not one table
    of float32 whose columns each lie in one piece, under one name each."""
    # pandas tells nowhere else whether `to_numpy` would copy.
    if len(frame._mgr.blocks) != 1 or not frame.columns.is_unique:
        return None
    table: Table = frame.to_numpy(copy=False).T
    whole = table.dtype == np.float32 and table.strides[1] == table.itemsize
    return table if whole and table.flags.writeable else None


def frame_of(table: Table, index: pd.Index, columns: pd.Index) -> pd.DataFrame:
    """A frame on the table, without a copy."""
    return pd.DataFrame(table.T, index=index, columns=columns, copy=False)


def copied(frame: pd.DataFrame, *, threads: int) -> pd.DataFrame:
    """A copy of everything, one table where the frame is one."""
    table = table_of(frame)
    if table is None:
        return frame.copy()
    fresh = np.empty(table.shape, np.float32)
    each(len(table), lambda k: np.copyto(fresh[k], table[k]), threads=threads)
    return frame_of(fresh, frame.index, frame.columns)


def kept_rows(frame: pd.DataFrame, table: Table, keep: Any, *, threads: int) -> pd.DataFrame:
    """A new frame of the rows for which the mask `keep` is true."""
    rows = np.flatnonzero(keep)
    fresh = np.empty((len(table), len(rows)), np.float32)
    each(len(table), lambda k: np.take(table[k], rows, out=fresh[k]), threads=threads)
    return frame_of(fresh, frame.index[keep], frame.columns)


def positions_of(frame: pd.DataFrame, group: str | None) -> Any:
    """The places of a group's columns; of all, if it is None."""
    places = np.arange(frame.shape[1])
    return places if group is None else np.atleast_1d(places[frame.columns.get_loc(group)])


def bounds_of_days(frame: pd.DataFrame) -> Any:
    """Where the rows of each day begin, and the end; None if rows of a day do not lie together."""
    index = frame.index
    if index.nlevels != 2 or "datetime" not in index.names:
        return None
    days = index.codes[index.names.index("datetime")]
    if len(days) == 0 or days.min() < 0 or (np.diff(days) < 0).any():
        return None
    return np.concatenate(([0], np.flatnonzero(np.diff(days)) + 1, [len(days)]))


def each(count: int, act: Callable[[int], Any], *, threads: int) -> list[Any]:
    """act(0) … act(count - 1), on so many threads; numpy lets them run at once."""

    def quietly(k: int) -> Any:
        with np.errstate(all="ignore"):
            return act(k)

    if threads == 1:
        return [quietly(k) for k in range(count)]
    with ThreadPoolExecutor(threads, thread_name_prefix="features") as pool:
        return list(pool.map(quietly, range(count)))

"""Twins of Qlib's slow processors: the same numbers to the last bit, column by column in place.

A twin does what it covers, a frame that is one table of float32, and leaves everything else to the
processor it stands for. It has that one's name and attributes, and pickles as it.
"""

import copyreg
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import qlib.data.dataset.processor as qlibs
from qlib.data.dataset.utils import fetch_df_by_index
from qlib.utils.data import zscore

from training.engine.features import frames
from training.engine.features.columns import Table

COLUMNS_AT_ONCE = 8
"""Of one call of nanmedian, which makes copies of what it is given."""


class _ProcessInf(qlibs.ProcessInf):  # type: ignore[misc]
    """An infinity becomes the mean of its day and column."""

    threads: int

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        table, bounds = frames.table_of(df), frames.bounds_of_days(df)
        if table is None or bounds is None or not df.index.is_monotonic_increasing:
            return super().__call__(df)

        def mend(k: int) -> None:
            column = table[k]
            hits = np.flatnonzero(np.isinf(column))
            for day in np.unique(np.searchsorted(bounds, hits, side="right") - 1):
                values = column[bounds[day] : bounds[day + 1]]
                wrong = np.isinf(values)
                values[wrong] = _mean(values[~wrong])

        frames.each(len(table), mend, threads=self.threads)
        return df


class _ZScoreNorm(qlibs.ZScoreNorm):  # type: ignore[misc]
    threads: int

    def fit(self, df: pd.DataFrame = None) -> None:
        seen = fetch_df_by_index(df, slice(self.fit_start_time, self.fit_end_time), "datetime")
        table = frames.table_of(seen)
        if table is None or len(seen) == 0:
            super().fit(df)
            return
        places = frames.positions_of(df, self.fields_group)

        def learn(k: int) -> tuple[Any, Any]:
            return np.nanmean(table[places[k]]), np.nanstd(table[places[k]])

        learnt = frames.each(len(places), learn, threads=self.threads)
        self.mean_train = np.array([mean for mean, _ in learnt], np.float32)
        self.std_train = np.array([std for _, std in learnt], np.float32)
        self.ignore = self.std_train == 0
        self.std_train[self.ignore] = 1
        self.mean_train[self.ignore] = 0
        self.cols = qlibs.get_group_columns(df, self.fields_group)

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        table = frames.table_of(df)
        if table is None or not _are_float32(self.mean_train, self.std_train):
            return super().__call__(df)
        places = df.columns.get_indexer(self.cols)

        def scale(k: int) -> None:
            column = table[places[k]]
            column -= self.mean_train[k]
            column /= self.std_train[k]

        frames.each(len(places), scale, threads=self.threads)
        return df


class _RobustZScoreNorm(qlibs.RobustZScoreNorm):  # type: ignore[misc]
    threads: int

    def fit(self, df: pd.DataFrame = None) -> None:
        seen = fetch_df_by_index(df, slice(self.fit_start_time, self.fit_end_time), "datetime")
        table = frames.table_of(seen)
        if table is None or len(seen) == 0:
            super().fit(df)
            return
        places = frames.positions_of(df, self.fields_group)
        parts = np.array_split(places, -(-len(places) // COLUMNS_AT_ONCE))

        def learn(k: int) -> tuple[Any, Any]:
            values = table[parts[k]].T
            median = np.nanmedian(values, axis=0)
            return median, np.nanmedian(np.abs(values - median), axis=0)

        learnt = frames.each(len(parts), learn, threads=self.threads)
        self.cols = qlibs.get_group_columns(df, self.fields_group)
        self.mean_train = np.concatenate([median for median, _ in learnt])
        self.std_train = np.concatenate([deviation for _, deviation in learnt])
        self.std_train += qlibs.EPS
        self.std_train *= 1.4826

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        table = frames.table_of(df)
        if table is None or not _are_float32(self.mean_train, self.std_train):
            return super().__call__(df)
        places = df.columns.get_indexer(self.cols)

        def scale(k: int) -> None:
            column = table[places[k]]
            column -= self.mean_train[k]
            column /= self.std_train[k]
            if self.clip_outlier:
                np.clip(column, -3, 3, out=column)

        frames.each(len(places), scale, threads=self.threads)
        return df


class _Fillna(qlibs.Fillna):  # type: ignore[misc]
    threads: int

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        table, value = frames.table_of(df), self.fill_value
        # pandas widens the type for a value that float32 does not have.
        if table is None or np.float32(value) != value:
            return super().__call__(df)
        places = frames.positions_of(df, self.fields_group)

        def fill(k: int) -> None:
            column = table[places[k]]
            column[np.isnan(column)] = value

        frames.each(len(places), fill, threads=self.threads)
        return df


class _DropnaLabel(qlibs.DropnaLabel):  # type: ignore[misc]
    threads: int

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        table = frames.table_of(df)
        if table is None:
            return super().__call__(df)
        places = frames.positions_of(df, self.fields_group)
        keep = ~np.isnan(table[places]).any(axis=0)
        return frames.kept_rows(df, table, keep, threads=self.threads)


class _CSZScoreNorm(qlibs.CSZScoreNorm):  # type: ignore[misc]
    threads: int

    def __call__(self, df: pd.DataFrame) -> pd.DataFrame:
        table, bounds = frames.table_of(df), frames.bounds_of_days(df)
        if table is None or bounds is None or self.zscore_func is not zscore:
            return super().__call__(df)
        given: Any = vars(self)["fields_group"]
        self.fields_group = given if isinstance(given, list) else [given]
        for group in self.fields_group:
            places = frames.positions_of(df, group)

            def scale(k: int, places: Any = places) -> None:
                column = table[places[k]]
                for start, end in zip(bounds[:-1], bounds[1:], strict=True):
                    _standardise(column[start:end])

            frames.each(len(places), scale, threads=self.threads)
        return df


_TWINS = {
    "ProcessInf": _ProcessInf,
    "ZScoreNorm": _ZScoreNorm,
    "RobustZScoreNorm": _RobustZScoreNorm,
    "Fillna": _Fillna,
    "DropnaLabel": _DropnaLabel,
    "CSZScoreNorm": _CSZScoreNorm,
}


@contextmanager
def fast_processors(threads: int) -> Iterator[None]:
    """Handlers that are made inside the block get the twins."""
    originals = {name: getattr(qlibs, name) for name in _TWINS}
    with ExitStack() as stack:
        for name, original in originals.items():
            setattr(qlibs, name, twin_of(original, threads=threads))
            stack.callback(setattr, qlibs, name, original)
        yield


def twin_of(original: type[Any], *, threads: int) -> type[Any]:
    """The twin of one of Qlib's classes, under that one's name."""

    def reduce(self: Any) -> Any:
        # What Python itself names in a pickle, so that it opens where this package is not.
        return copyreg._reconstructor, (original, object, None), self.__getstate__()  # type: ignore[attr-defined]

    names = {"threads": threads, "__reduce__": reduce, "__module__": original.__module__}
    return type(original.__name__, (_TWINS[original.__name__],), names)


def _mean(values: Table) -> Any:
    """pandas' mean of float32: summed up as float32, NaN left out.

    Source: pandas 2.3, pandas/core/nanops.py, `nanmean`.
    """
    missing = np.isnan(values)
    count = np.float32(len(values) - missing.sum())
    total = np.where(missing, np.float32(0), values).sum(dtype=np.float32)
    return total / count if count > 0 else np.float32(np.nan)


def _standardise(values: Table) -> None:
    """One day's values: less their mean, by their deviation, as pandas reckons both.

    The mean sums up in float32, the deviation around another mean that sums up in float64.
    Source: pandas 2.3, pandas/core/nanops.py, `nanmean` and `nanvar`.
    """
    missing = np.isnan(values)
    count = np.float32(len(values) - missing.sum())
    filled = np.where(missing, np.float32(0), values)
    mean = filled.sum(dtype=np.float32) / count if count > 0 else np.float32(np.nan)
    squares = (filled.sum(dtype=np.float64) / count - filled) ** 2
    squares[missing] = 0
    degrees = count - np.float32(1) if count > 1 else np.float32(np.nan)
    values -= mean
    values /= np.sqrt(np.float32(squares.sum(dtype=np.float64) / degrees))


def _are_float32(*learnt: Any) -> bool:
    return all(values.dtype == np.float32 for values in learnt)

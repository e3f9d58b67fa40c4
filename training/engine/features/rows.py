"""Which rows a load has: pairs of a day and an instrument, in that order.

Every column of the load has exactly these rows, so one index serves all of them.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from training.engine.features.files import FieldFiles, Span
from training.engine.features.formula import Read
from training.engine.features.spans import Spans

Places = np.ndarray[tuple[int], np.dtype[np.int64]]
Listing = Mapping[str, Sequence[tuple[pd.Timestamp, pd.Timestamp]] | None]
"""When each instrument belongs to the market; None is always."""


@dataclass(frozen=True)
class Rows:
    """files: the dataset. calendar: all its days. first, last: the range, places in the calendar.

    instruments: sorted, those with at least one row. Instrument k has the rows
    bounds[k] up to bounds[k + 1] of `days` (places in the calendar, ascending).
    """

    files: FieldFiles
    calendar: pd.DatetimeIndex = field(repr=False)
    first: int
    last: int
    instruments: tuple[str, ...] = field(repr=False)
    bounds: Places = field(repr=False)
    days: Places = field(repr=False)

    def __len__(self) -> int:
        return len(self.days)

    @cached_property
    def positions(self) -> Places:
        """Where in a column each of `days` stands: ordered by day, then instrument."""
        per_day = np.bincount(self.days - self.first, minlength=self.last - self.first + 1)
        free = np.concatenate(([0], np.cumsum(per_day)[:-1]))
        positions = np.empty(len(self), np.int64)
        for start, end in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            today = self.days[start:end] - self.first
            positions[start:end] = free[today]
            free[today] += 1
        return positions

    @cached_property
    def index(self) -> pd.MultiIndex:
        """(datetime, instrument), as Qlib's loader returns it."""
        codes = np.empty(len(self), np.int32)
        codes[self.positions] = np.repeat(
            np.arange(len(self.instruments), dtype=np.int32), np.diff(self.bounds)
        )
        used, per_day = np.unique(self.days, return_counts=True)
        days = np.repeat(np.arange(len(used), dtype=np.int32), per_day)
        return pd.MultiIndex(
            levels=[self.calendar[used], pd.Index(self.instruments, dtype=object)],
            codes=[days, codes],
            names=["datetime", "instrument"],
            verify_integrity=False,
        )

    @cached_property
    def digest(self) -> str:
        """Equal for equal rows over the same range of one dataset; sha256, hexadecimal."""
        told = hashlib.sha256(f"{self.files.frequency} {self.first} {self.last}".encode())
        told.update("\0".join(self.instruments).encode())
        told.update(self.bounds.tobytes())
        told.update(self.days.tobytes())
        return told.hexdigest()


def find_rows(
    calendar: pd.DatetimeIndex,
    *,
    listing: Listing,
    spans: Spans,
    reads: Collection[Read],
    first: int,
    last: int,
) -> Rows:
    """The rows of a load: days on which an instrument is listed and any field has data.

    reads: all that the load reads.
    """
    names, found = [], []
    for name in sorted(listing):
        days = _days_with_data(spans.of(name, reads), first, last)
        days = days[_listed(days, listing[name], calendar)]
        if len(days):
            names.append(name)
            found.append(days)
    return Rows(
        files=spans.files,
        calendar=calendar,
        first=first,
        last=last,
        instruments=tuple(names),
        bounds=np.concatenate(([0], np.cumsum([len(days) for days in found]))).astype(np.int64),
        days=np.concatenate([np.empty(0, np.int64), *found]),
    )


def _days_with_data(spans: Iterable[Span], first: int, last: int) -> Places:
    inside = [span.within(first, last + 1) for span in spans]
    present = np.zeros(last - first + 1, bool)
    for span in set(inside):
        if span:
            present[span.start - first : span.end - first] = True
    return np.flatnonzero(present) + first


def _listed(
    days: Places,
    periods: Sequence[tuple[pd.Timestamp, pd.Timestamp]] | None,
    calendar: pd.DatetimeIndex,
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if periods is None:
        return np.ones(len(days), bool)
    listed = np.zeros(len(days), bool)
    for begin, end in periods:
        start = calendar.searchsorted(begin)
        stop = calendar.searchsorted(end, side="right")
        listed |= (days >= start) & (days < stop)
    return listed

"""Qlib's store of a dataset, read plainly: one file per instrument and field.

A file is float32, little-endian: the place of its first day in the calendar, then one value a day.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qlib.utils import code_to_fname

Values = np.ndarray[tuple[int], np.dtype[np.float32]]
_ITEM_BYTES = 4


@dataclass(frozen=True, slots=True)
class Span:
    """Days that a file has, as places in the calendar; `end` is the first that it has not."""

    start: int
    end: int

    def __bool__(self) -> bool:
        return self.end > self.start

    def within(self, start: int, end: int) -> "Span":
        return Span(max(self.start, start), min(self.end, end))


EMPTY = Span(0, 0)


@dataclass(frozen=True)
class FieldFiles:
    """folder: the dataset's, which has `features/<instrument>/<field>.<frequency>.bin`."""

    folder: Path
    frequency: str = "day"

    def span(self, instrument: str, field: str) -> Span:
        """Empty, if there is no such file: Qlib takes it for a column of NaN."""
        try:
            with self._path(instrument, field).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                head = file.read(_ITEM_BYTES)
        except FileNotFoundError:
            return EMPTY
        count = size // _ITEM_BYTES - 1
        if count < 1:
            return EMPTY
        start = int(np.frombuffer(head, "<f4")[0])
        return Span(start, start + count)

    def read(self, instrument: str, field: str) -> tuple[int, Values]:
        """The place of the first day, and the values; both zero and empty without a file."""
        try:
            data = np.fromfile(self._path(instrument, field), "<f4")
        except FileNotFoundError:
            return 0, np.empty(0, np.float32)
        if len(data) < 2:
            return 0, np.empty(0, np.float32)
        return int(data[0]), data[1:]

    def _path(self, instrument: str, field: str) -> Path:
        folder: str = code_to_fname(instrument).lower()
        return self.folder / "features" / folder / f"{field}.{self.frequency}.bin"

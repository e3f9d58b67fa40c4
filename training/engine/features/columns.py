"""Where a load's columns come from: computed into scratch memory, or from whoever keeps them.

Columns of one load have one length and one order of rows, so that an index serves all of them.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from training.engine.features.evaluate import Column
from training.engine.features.formula import Formula
from training.engine.features.rows import Rows

Table = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Compute = Callable[[Sequence[Formula], Sequence[Column]], None]
"""Fills the given arrays with the formulas' columns; reports progress, and ends on a cancel."""


class ColumnSource(Protocol):
    """Gives the columns of a load, computed or found."""

    def columns(self, formulas: Sequence[Formula], rows: Rows, compute: Compute) -> list[Column]:
        """One array of len(rows) for each formula, which may be read-only.

        A column is determined by the dataset's content, `rows.digest` and `formula.text`.
        """


@dataclass(frozen=True)
class ScratchColumns:
    """Computes every column, into a file without a name in `folder`.

    So the system may write a large load to disk instead of running out of memory, and no other
    process can reach it.
    """

    folder: Path

    def columns(self, formulas: Sequence[Formula], rows: Rows, compute: Compute) -> list[Column]:
        table = allocate(len(formulas), len(rows), folder=self.folder)
        columns: list[Column] = list(table)
        compute(formulas, columns)
        return columns


def allocate(count: int, length: int, *, folder: Path) -> Table:
    """A table of zeros, mapped from a file that goes when the table does."""
    if count * length == 0:
        return np.zeros((count, length), np.float32)
    with tempfile.TemporaryFile(dir=folder, prefix="features-") as file:
        file.truncate(count * length * 4)
        return np.memmap(file, np.float32, "r+", shape=(count, length))

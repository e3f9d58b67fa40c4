"""Where a load's columns come from: computed into scratch memory, or from whoever keeps them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Column = np.ndarray[Any, np.dtype[np.float32]]
Table = np.ndarray[Any, np.dtype[np.float32]]
Make = Callable[[Sequence[int], Sequence[Column]], None]
"""make(numbers, out): computes the expressions with these numbers, each into its array of `out`."""


class ColumnSource(Protocol):
    """Gives the columns of a load, computed or found."""

    def get(
        self, expressions: Sequence[str], *, load: Mapping[str, Any], rows: int, make: Make
    ) -> Table:
        """The columns as an array (expression, row), float32, which may be written.

        expressions: in their one spelling, each once. load: what else the values depend on, beside
        the dataset and the libraries, as JSON can hold it. rows: how many a column has.
        Raises: what `make` raises, Cancelled among it.
        """


@dataclass(frozen=True)
class ScratchColumns:
    """Computes every column, into a file without a name in `folder`.

    So the system may write a large load to disk instead of running out of memory, and no other
    process can reach it.
    """

    folder: Path

    def get(
        self, expressions: Sequence[str], *, load: Mapping[str, Any], rows: int, make: Make
    ) -> Table:
        table = allocate(len(expressions), rows, folder=self.folder)
        make(range(len(expressions)), list(table))
        return table


def allocate(count: int, length: int, *, folder: Path) -> Table:
    """A table of zeros, mapped from a file that goes when the table does."""
    if count * length == 0:
        return np.zeros((count, length), np.float32)
    with tempfile.TemporaryFile(dir=folder, prefix="features-") as file:
        file.truncate(count * length * 4)
        return np.memmap(file, np.float32, "r+", shape=(count, length)).view(np.ndarray)

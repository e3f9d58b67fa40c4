"""How alike the predictions of several trainings are."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LEAST_ROWS = 3
"""A day on which two trainings have fewer instruments in common says nothing."""


def correlations(files: Mapping[str, Path]) -> dict[str, Any]:
    """Mean over the days of the correlation of two trainings' scores, across instruments.

    files: `predictions.parquet` by the task's id; two or more. Each pair is compared on the days
    and instruments that both have.
    Returns: `tasks`, and matrices in their order: `pearson`, `rank` (Spearman), `days` (how many
    were compared); null where two have nothing in common.
    """
    ids = list(files)
    scores = pd.concat({name: _scores(path) for name, path in files.items()}, axis=1)
    size = len(ids)
    pearson, rank, days = (np.full((size, size), np.nan) for _ in range(3))
    for one in range(size):
        counted = scores[ids[one]].dropna().index.get_level_values("datetime").nunique()
        pearson[one, one] = rank[one, one] = 1.0
        days[one, one] = counted
    for one, other in combinations(range(size), 2):
        found = _pair(scores[[ids[one], ids[other]]].dropna())
        for matrix, value in zip((pearson, rank, days), found, strict=True):
            matrix[one, other] = matrix[other, one] = value
    return {
        "tasks": ids,
        "pearson": _plain(pearson),
        "rank": _plain(rank),
        "days": [[int(value) for value in row] for row in days],
    }


def _scores(path: Path) -> pd.Series:
    table = pd.read_parquet(path, columns=["datetime", "instrument", "score"])
    return table.set_index(["datetime", "instrument"])["score"]


def _pair(both: pd.DataFrame) -> tuple[float, float, float]:
    """Mean Pearson, mean Spearman, number of days."""
    by_day = both.groupby(level="datetime")
    enough = by_day[both.columns[0]].transform("size") >= LEAST_ROWS
    both = both[enough]
    if both.empty:
        return np.nan, np.nan, 0
    ranks = both.groupby(level="datetime").rank()
    plain, ranked = _daily(both), _daily(ranks)
    return float(np.mean(plain)), float(np.mean(ranked)), len(plain)


def _daily(both: pd.DataFrame) -> Any:
    """Pearson's correlation of the two columns, day by day.

    A day on which one of them does not vary is no evidence of likeness: it counts as 0.
    """
    centred = both - both.groupby(level="datetime").transform("mean")
    first, second = (centred.iloc[:, column] for column in (0, 1))
    products = pd.DataFrame({"xy": first * second, "xx": first**2, "yy": second**2})
    sums = products.groupby(level="datetime").sum()
    spread = np.sqrt(sums["xx"] * sums["yy"])
    return np.where(spread > 0, sums["xy"] / spread.where(spread > 0, 1.0), 0.0)


def _plain(matrix: Any) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in matrix]

"""Expressions over rows: the columns of a load, computed block by block into given arrays."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from training.engine.features.blocks import Block, Layout, sources_of
from training.engine.features.columns import Column
from training.engine.features.formula import Formula
from training.engine.features.graph import Graph, Plan
from training.engine.features.rows import Places, Rows
from training.engine.features.steps import Array
from training.engine.features.windows import scatter

OnBlock = Callable[[int, int], None]
"""Called between blocks, in the caller's thread: instruments done, instruments in all."""
# So many rows of a step stay in the processor's cache, and a cancel is heard after each such block.
BLOCK_ROWS = 24_000


def evaluate(
    formulas: Sequence[Formula],
    rows: Rows,
    out: Sequence[Column],
    *,
    threads: int = 1,
    on_block: OnBlock = lambda done, total: None,
) -> None:
    """Fills out[k] with the values of formulas[k] on `rows`, every element of it.

    out: writable float32 arrays of len(rows), each contiguous; memory-mapped ones serve. What
    on_block raises ends the evaluation after the blocks that are being computed; `out` is then
    incomplete. Raises: NotCovered, before anything is computed; `Spans.why_not` says so earlier.
    """
    if not all(len(column) == len(rows) and column.flags.c_contiguous for column in out):
        raise ValueError(f"every column must be contiguous and have {len(rows)} rows")
    groups = _groups(formulas, rows, out)
    # Made here, as each thread would make them anew.
    positions = rows.positions
    total = len(rows.instruments)
    done = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="features") as pool:
        blocks = {
            pool.submit(_fill, groups, rows, positions, block): len(block)
            for block in _blocks(rows)
        }
        try:
            for finished in as_completed(blocks):
                finished.result()
                done += blocks[finished]
                on_block(done, total)
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Group:
    """Formulas for which Qlib loads the same days, with the steps and columns of each."""

    graph: Graph
    plan: Plan
    start: int
    end: int
    targets: tuple[tuple[int, Column], ...]


def _groups(formulas: Sequence[Formula], rows: Rows, out: Sequence[Column]) -> list[_Group]:
    graph = Graph()
    ranges: dict[tuple[int, int], list[tuple[int, Column]]] = {}
    for formula, column in zip(formulas, out, strict=True):
        days = max(0, rows.first - formula.back), rows.last + formula.ahead + 1
        ranges.setdefault(days, []).append((graph.add(formula.tree), column))
    return [
        _Group(graph, graph.plan([root for root, _ in targets]), *days, tuple(targets))
        for days, targets in ranges.items()
    ]


def _blocks(rows: Rows) -> Iterator[range]:
    """Instruments by place, so many that a block has about BLOCK_ROWS rows."""
    first = 0
    while first < len(rows.instruments):
        last = int(np.searchsorted(rows.bounds, rows.bounds[first] + BLOCK_ROWS, side="right")) - 1
        yield range(first, max(last, first + 1))
        first = max(last, first + 1)


def _fill(groups: Sequence[_Group], rows: Rows, positions: Places, block: range) -> None:
    """One block of every column."""
    names = [rows.instruments[k] for k in block]
    series = cache(rows.files.read)
    places = positions[rows.bounds[block.start] : rows.bounds[block.stop]]
    days = [rows.days[rows.bounds[k] : rows.bounds[k + 1]] for k in block]
    # Columns are written from front to back, which is what memory likes best.
    order = np.argsort(places)
    targets = places[order]
    with np.errstate(all="ignore"):
        for group in groups:
            work = Block(group.graph, group.plan, series, names, group.start, group.end)
            sources: dict[Layout, Places] = {}
            for root, column in group.targets:
                values, layout = work.take(root)
                if layout not in sources:
                    sources[layout] = sources_of(layout, days)[order]
                scatter(_as_float(values), sources[layout], targets, column)


def _as_float(values: Any) -> Array:
    """float32 or float64; both are rounded to float32 when they are written."""
    fits = values.dtype in (np.float32, np.float64)
    return values if fits else values.astype(np.float32)  # type: ignore[no-any-return]

"""Both evaluators on one store, and a comparison to the last bit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from qlib.data import D

from training.catalogue import load
from training.engine.features.evaluate import evaluate
from training.engine.features.files import FieldFiles
from training.engine.features.formula import Formula
from training.engine.features.rows import Rows, find_rows
from training.engine.features.spans import Spans


def open_with_qlib(store: Path) -> None:
    qlib.init(provider_uri=str(store), region="us", kernels=1, logging_level=50)


def by_qlib(expressions: Sequence[str], start: str, end: str) -> pd.DataFrame:
    frame = D.features(D.instruments("all"), list(expressions), start, end)
    return frame.swaplevel().sort_index()


def by_us(
    store: Path, expressions: Sequence[str], start: str, end: str, *, threads: int = 1
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The covered expressions' columns, and why the others are not."""
    operators = load().operators
    formulas = [Formula.read(expression, operators) for expression in expressions]
    listing = D.list_instruments(D.instruments("all"), as_list=False)
    spans = Spans(FieldFiles(store), listing)
    reasons = {
        expression: reason
        for expression, formula in zip(expressions, formulas, strict=True)
        if (reason := spans.why_not(formula)) is not None
    }
    calendar = pd.DatetimeIndex(D.calendar())
    days = D.calendar(start, end)
    rows = find_rows(
        calendar,
        listing=listing,
        spans=spans,
        reads={read for formula in formulas for read in formula.reads},
        first=calendar.get_loc(days[0]),
        last=calendar.get_loc(days[-1]),
    )
    covered = [one for one in expressions if one not in reasons]
    chosen = [f for e, f in zip(expressions, formulas, strict=True) if e not in reasons]
    return _frame(covered, chosen, rows, threads), reasons


def _frame(names: list[str], formulas: list[Formula], rows: Rows, threads: int) -> pd.DataFrame:
    # Nothing but a value that every element gets can be left over from this one.
    table = np.full((len(formulas), len(rows)), 12345.678, np.float32)
    evaluate(formulas, rows, list(table), threads=threads)
    return pd.DataFrame(table.T, index=rows.index, columns=names)


def differences(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, str]:
    """Columns that are not equal in every bit (NaN is NaN), with the first different value."""
    assert ours.index.equals(theirs.index)
    found = {}
    for name in ours.columns:
        one, other = (np.ascontiguousarray(frame[name].to_numpy()) for frame in (ours, theirs))
        if one.dtype != other.dtype:
            found[name] = f"types {one.dtype} and {other.dtype}"
            continue
        equal = (one.view(np.int32) == other.view(np.int32)) | (np.isnan(one) & np.isnan(other))
        if not equal.all():
            k = int(np.flatnonzero(~equal)[0])
            found[name] = f"{(~equal).sum()} values, first {one[k]!r} for {other[k]!r}"
            found[name] += f" at {ours.index[k]}"
    return found

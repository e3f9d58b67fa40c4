"""Qlib's own loader, with the expressions computed here.

A handler names `QlibDataLoader` and gets this one while `fast_loading` is in force; what this one
does not cover it leaves to Qlib, field by field. It pickles as the loader that was named.
"""

import copyreg
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import qlib.data.dataset.loader as loader_module
import qlib.data.ops
from qlib.config import C
from qlib.data import D
from qlib.data.dataset.loader import QlibDataLoader

from training.catalogue import load as load_catalogue
from training.engine.features import VERSION
from training.engine.features.columns import Column, ColumnSource, Table
from training.engine.features.evaluate import OnBlock, evaluate
from training.engine.features.files import FieldFiles
from training.engine.features.formula import Formula, calls
from training.engine.features.rows import Listing, Rows, find_rows
from training.engine.features.spans import Spans
from training.errors import TrainingError
from training.expressions import BadExpression

log = logging.getLogger(__name__)

FREQUENCY = "day"


class RefusedExpression(TrainingError):
    """A handler asks for a field that the grammar does not know; Qlib would `eval` it."""

    code = "invalid_config"


@dataclass
class Evaluator:
    """What the loaders of one training have in common; `left_to_qlib` says what, and why."""

    source: ColumnSource
    threads: int
    on_block: OnBlock
    computed: int = 0
    left_to_qlib: dict[str, str] = field(default_factory=dict)

    def columns(self, formulas: Sequence[Formula], rows: Rows) -> Table:
        def make(numbers: Sequence[int], out: Sequence[Column]) -> None:
            chosen = [formulas[number] for number in numbers]
            evaluate(chosen, rows, out, threads=self.threads, on_block=self.on_block)

        texts = [formula.text for formula in formulas]
        load = {"rows": rows.digest, "evaluator": VERSION}
        table = self.source.get(texts, load=load, rows=len(rows), make=make)
        self.computed += len(formulas)
        return table


@contextmanager
def fast_loading(evaluator: Evaluator) -> Iterator[None]:
    """Handlers that are made inside the block load by this evaluator."""
    original = loader_module.QlibDataLoader
    loader_module.QlibDataLoader = loader_class(evaluator)
    try:
        yield
    finally:
        loader_module.QlibDataLoader = original


def loader_class(evaluator: Evaluator) -> type[Any]:
    """The loader's class for one training."""

    class FastDataLoader(QlibDataLoader):  # type: ignore[misc]
        def load(
            self, instruments: Any = None, start_time: Any = None, end_time: Any = None
        ) -> Any:
            loading = _Loading(self, evaluator, instruments, start_time, end_time)
            if reason := loading.why_not():
                evaluator.left_to_qlib["every field"] = reason
                log.info("Qlib computes every field: %s", reason)
                return super().load(instruments, start_time, end_time)
            return loading.frame()

        def __reduce__(self) -> Any:
            # What Python itself names in a pickle, so that it opens where this package is not.
            return copyreg._reconstructor, (QlibDataLoader, object, None), self.__dict__  # type: ignore[attr-defined]

    FastDataLoader.__qualname__ = QlibDataLoader.__qualname__
    return FastDataLoader


@dataclass(frozen=True)
class _Wanted:
    """One column of the result: its name there, its expression, and its group, if there are any."""

    group: str | None
    name: str
    expression: str


@dataclass
class _Loading:
    """One call of `load`."""

    loader: Any
    evaluator: Evaluator
    instruments: Any
    start_time: Any
    end_time: Any

    def why_not(self) -> str | None:
        """Why Qlib has to do all of it."""
        if self.loader.inst_processors:
            return "there are processors of single instruments"
        if not self.loader.swap_level:
            return "the levels of the index are not to be swapped"
        if self.loader.freq != FREQUENCY:
            return f"the frequency is {self.loader.freq}"
        if len(D.calendar(self.start_time, self.end_time, freq=FREQUENCY)) == 0:
            return "there is no day in the range"
        return None

    def frame(self) -> pd.DataFrame:
        wanted = self._wanted()
        # In the order of the result: then the table of columns needs no copy to become its frame.
        formulas = _read(dict.fromkeys(one.expression for one in wanted))
        listing = self._listing()
        spans = Spans(FieldFiles(C.dpm.get_data_uri(FREQUENCY)), listing)
        reasons = _reasons(formulas, spans)
        self.evaluator.left_to_qlib.update(reasons)
        for expression, reason in reasons.items():
            log.info("Qlib computes %s: %s", expression, reason)
        covered = [formula for text, formula in formulas.items() if text not in reasons]
        distinct = list({formula.text: formula for formula in covered}.values())
        if not distinct:
            return self._by_qlib(wanted)
        rows = self._rows(distinct, listing, spans)
        table = self.evaluator.columns(distinct, rows)
        places = {formula.text: place for place, formula in enumerate(distinct)}
        ours = [one for one in wanted if one.expression not in reasons]
        order = [places[formulas[one.expression].text] for one in ours]
        frame = pd.DataFrame(
            _in_order(table, order).T, index=rows.index, columns=self._names(ours), copy=False
        )
        theirs = [one for one in wanted if one.expression in reasons]
        return self._joined(frame, theirs, wanted) if theirs else frame

    def _wanted(self) -> list[_Wanted]:
        groups = self.loader.fields if self.loader.is_group else {None: self.loader.fields}
        return [
            _Wanted(group, name, str(expression))
            for group, (expressions, names) in groups.items()
            for expression, name in zip(expressions, names, strict=True)
        ]

    def _names(self, wanted: Sequence[_Wanted]) -> Any:
        if self.loader.is_group:
            return pd.MultiIndex.from_tuples([(one.group, one.name) for one in wanted])
        return pd.Index([one.name for one in wanted])

    def _listing(self) -> Listing:
        """As QlibDataLoader and D.features find it."""
        chosen = "all" if self.instruments is None else self.instruments
        if isinstance(chosen, str):
            chosen = D.instruments(chosen, filter_pipe=self.loader.filter_pipe)
        if isinstance(chosen, Mapping):
            if "market" not in chosen:
                return chosen
            listing: Listing = D.list_instruments(chosen, freq=FREQUENCY, as_list=False)
            return listing
        return dict.fromkeys(chosen)

    def _rows(self, formulas: Sequence[Formula], listing: Listing, spans: Spans) -> Rows:
        calendar = pd.DatetimeIndex(D.calendar(freq=FREQUENCY))
        days = D.calendar(self.start_time, self.end_time, freq=FREQUENCY)
        return find_rows(
            calendar,
            listing=listing,
            spans=spans,
            reads={read for formula in formulas for read in formula.reads},
            first=int(calendar.get_loc(days[0])),
            last=int(calendar.get_loc(days[-1])),
        )

    def _by_qlib(self, wanted: Sequence[_Wanted]) -> pd.DataFrame:
        """What Qlib's loader gives for these columns alone."""
        frames = {
            group: self.loader.load_group_df(
                self.instruments,
                [one.expression for one in wanted if one.group == group],
                [one.name for one in wanted if one.group == group],
                self.start_time,
                self.end_time,
                group,
            )
            for group in dict.fromkeys(one.group for one in wanted)
        }
        return pd.concat(frames, axis=1) if self.loader.is_group else frames[None]

    def _joined(
        self, ours: pd.DataFrame, left: Sequence[_Wanted], wanted: Sequence[_Wanted]
    ) -> pd.DataFrame:
        """Both, in the order that was asked for. By place, as two columns may have one name."""
        theirs = self._by_qlib(left)
        if not ours.index.equals(theirs.index):
            rows = ours.index.union(theirs.index)
            ours, theirs = ours.reindex(rows), theirs.reindex(rows)
        numbered = pd.concat(
            [ours.set_axis(range(ours.shape[1]), axis=1)]
            + [theirs.set_axis(range(-theirs.shape[1], 0), axis=1)],
            axis=1,
        )
        first, second = iter(range(ours.shape[1])), iter(range(-theirs.shape[1], 0))
        qlibs = set(left)
        order = [next(second if one in qlibs else first) for one in wanted]
        return numbered[order].set_axis(self._names(wanted), axis=1)


def _read(expressions: Iterable[str]) -> dict[str, Formula]:
    """Raises: RefusedExpression; Qlib shall not `eval` what our grammar refuses."""
    operators = load_catalogue().operators
    formulas = {}
    for expression in expressions:
        try:
            formulas[expression] = Formula.read(expression, operators)
        except BadExpression as bad:
            raise RefusedExpression(
                f"The field `{expression}` is not accepted: {bad.message} (column {bad.column})."
            ) from bad
    return formulas


def _reasons(formulas: Mapping[str, Formula], spans: Spans) -> dict[str, str]:
    """Why Qlib has to compute some of the expressions."""
    shadowed = {name for formula in formulas.values() for name in formula.operators if _own(name)}
    confused = _confused(formulas.values())
    found: dict[str, str] = {}
    for text, formula in formulas.items():
        reason = spans.why_not(formula)
        if own := shadowed & formula.operators:
            reason = f"{', '.join(sorted(own))} is not Qlib's own here"
        elif not confused.isdisjoint(calls(formula.tree, "Rolling")):
            reason = "Qlib confuses Rolling over the same days by different functions"
        if reason:
            found[text] = reason
    return found


def _own(operator: str) -> bool:
    """Whether an administrator's operator has taken the place of a built-in."""
    known: Callable[..., Any] | None = getattr(qlib.data.ops, operator, None)
    return getattr(qlib.data.ops.Operators, operator, None) is not known


def _confused(formulas: Any) -> set[str]:
    """Calls of Rolling that Qlib's memory takes for one, as their text leaves out the function."""
    functions = defaultdict(set)
    for formula in formulas:
        for call in calls(formula.tree, "Rolling"):
            functions[call.rpartition(",")[0]].add(call)
    return {call for same in functions.values() if len(same) > 1 for call in same}


def _in_order(table: Table, order: Sequence[int]) -> Table:
    """Rows of the table, without a copy where they are in order already."""
    if list(order) == list(range(len(table))):
        return table
    chosen: Table = table[np.array(order, dtype=int)]
    return chosen

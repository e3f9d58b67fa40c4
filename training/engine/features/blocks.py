"""A block: some instruments, row after row, and the steps of a graph computed on them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from training.engine.features import steps
from training.engine.features.files import Span
from training.engine.features.graph import Graph, Plan
from training.engine.features.rows import Places
from training.engine.features.steps import Array, Value

Series = Callable[[str, str], tuple[int, Array]]
"""(instrument, field) -> the place of its first day in the calendar, and its float32 values."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the instruments of a block lie: spans of days, and bounds of rows."""

    spans: tuple[Span, ...]
    bounds: Places

    @classmethod
    def of(cls, spans: Sequence[Span]) -> "Layout":
        lengths = [span.end - span.start for span in spans]
        return cls(tuple(spans), np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))


NUMBER = Layout.of(())
"""Of a number, which is the same on every row."""


class Result(NamedTuple):
    values: Value
    layout: Layout


@dataclass
class Block:
    """Computes steps for its instruments over one range of days, `start` up to `end`.

    A result is dropped as soon as its last reader has read it.
    """

    graph: Graph
    plan: Plan
    series: Series
    instruments: Sequence[str]
    start: int
    end: int
    _left: Counter[int] = field(init=False)
    _results: dict[int, Result] = field(init=False, default_factory=dict)
    _layouts: dict[tuple[Span, ...], Layout] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._left = Counter(self.plan.uses)

    def take(self, number: int) -> Result:
        """A step's result, which counts as read."""
        if number not in self._results:
            self._compute(number)
        result = self._results[number]
        self._left[number] -= 1
        if self._left[number] <= 0:
            del self._results[number]
        return result

    def _compute(self, number: int) -> None:
        step = self.graph.steps[number]
        if step.operator == "number":
            self._results[number] = Result(step.parameters[0], NUMBER)  # type: ignore[arg-type]
        elif step.operator == "field":
            self._results[number] = self._read(str(step.parameters[0]))
        elif step.operator == "elsewhere":
            self._results[number] = self._elsewhere(step.inputs[0], str(step.parameters[0]))
        elif step.operator in ("Rank", "Quantile", "Med"):
            self._order(step.inputs[0], step.parameters[0])
        else:
            self._results[number] = self._combine(step.operator, step.inputs, step.parameters)

    def _combine(
        self, operator: str, inputs: tuple[int, ...], parameters: tuple[Any, ...]
    ) -> Result:
        taken = self._aligned([self.take(number) for number in inputs])
        layout = next(side.layout for side in taken if side.layout is not NUMBER)
        values: list[Any] = [side.values for side in taken]
        if operator == "Ref":
            return Result(steps.shifted(values[0], layout.bounds, parameters[0]), layout)
        if operator in steps.WINDOWED:
            return Result(steps.windowed(operator, values, layout.bounds, parameters[0]), layout)
        return Result(steps.POINTWISE[operator](*values), layout)

    def _order(self, child: int, size: Any) -> None:
        """All steps that need this sorted window, at once."""
        together = [n for n in self.plan.together[child, size] if n not in self._results]
        levels = [self._level(number) for number in together]
        # Each of them is a reader of the child.
        values, layout = [self.take(child) for _ in together][0]
        results = steps.ordered(values, layout.bounds, size, levels)  # type: ignore[arg-type]
        for number, result in zip(together, results, strict=True):
            self._results[number] = Result(result, layout)

    def _level(self, number: int) -> float:
        step = self.graph.steps[number]
        if step.operator == "Quantile":
            return float(step.parameters[1])
        return steps.RANK_LEVEL if step.operator == "Rank" else steps.MEDIAN_LEVEL

    def _layout(self, spans: Sequence[Span]) -> Layout:
        """One object for equal spans, so that layouts are compared by identity."""
        key = tuple(spans)
        if key not in self._layouts:
            self._layouts[key] = Layout.of(key)
        return self._layouts[key]

    def _read(self, name: str) -> Result:
        pieces, spans = [], []
        for instrument in self.instruments:
            start, values = self.series(instrument, name)
            span = Span(start, start + len(values)).within(self.start, self.end)
            if not span:
                span = Span(0, 0)
            pieces.append(values[span.start - start : span.end - start] if span else values[:0])
            spans.append(span)
        return Result(np.concatenate(pieces), self._layout(spans))

    def _elsewhere(self, child: int, instrument: str) -> Result:
        """The result for one other instrument, repeated for each of the block's own."""
        plan = self.graph.plan([child])
        other = Block(self.graph, plan, self.series, [instrument], self.start, self.end)
        values, layout = other.take(child)
        count = len(self.instruments)
        return Result(np.tile(values, count), self._layout(layout.spans * count))

    def _aligned(self, taken: list[Result]) -> list[Result]:
        """Both sides on the union of their days, with NaN where one has none: as pandas does."""
        layouts = {side.layout for side in taken} - {NUMBER}
        if len(layouts) == 1:
            return taken
        spans = [_union(one, other) for one, other in zip(*(s.spans for s in layouts), strict=True)]
        union = self._layout(spans)
        return [Result(_spread(side.values, side.layout, union), union) for side in taken]


def _union(one: Span, other: Span) -> Span:
    """Of spans that touch; `Spans.why_not` keeps others away."""
    if not one or not other:
        return one or other
    return Span(min(one.start, other.start), max(one.end, other.end))


def _spread(value: Any, layout: Layout, union: Layout) -> Array:
    kind = value.dtype if value.dtype.kind == "f" else np.dtype(np.float64)
    spread: Array = np.full(union.bounds[-1], np.nan, kind)
    for k, span in enumerate(layout.spans):
        if span:
            start = union.bounds[k] + span.start - union.spans[k].start
            rows = value[layout.bounds[k] : layout.bounds[k + 1]]
            spread[start : start + len(rows)] = rows
    return spread


def sources_of(layout: Layout, days: Sequence[Places]) -> Places:
    """For each wanted day of each instrument its row in the block, -1 where it has none."""
    found = []
    for k, span in enumerate(layout.spans):
        wanted = days[k]
        rows = wanted - span.start + layout.bounds[k]
        rows[(wanted < span.start) | (wanted >= span.end)] = -1
        found.append(rows)
    return np.concatenate(found)

"""Which days the fields of a load have, and what follows from that for its expressions."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from training.engine.features.files import FieldFiles, Span
from training.engine.features.formula import Formula, NotCovered, Read
from training.engine.features.graph import Graph


@dataclass(frozen=True, eq=False)
class Spans:
    """files: the dataset. instruments: those of the load. Each file is looked at once."""

    files: FieldFiles
    instruments: Collection[str]

    def of(self, instrument: str, reads: Iterable[Read]) -> list[Span]:
        """Of everything that is read to compute values for this instrument."""
        return [self._span(other or instrument, field) for other, field in reads]

    def why_not(self, formula: Formula) -> str | None:
        """Why Qlib has to compute this formula itself, or None.

        Where fields have different days Qlib aligns for some operators and fails for others; what
        fails shall fail by Qlib's own words.
        """
        try:
            Graph().add(formula.tree)
        except NotCovered as reason:
            return str(reason)
        uneven, with_gap = self._uneven(formula.reads)
        instrument = uneven if formula.needs_equal_spans else with_gap
        return f"the fields of {instrument} have data on different days" if instrument else None

    @cache  # noqa: B019  (goes with the load that made this object)
    def _span(self, instrument: str, field: str) -> Span:
        return self.files.span(instrument, field)

    @cache  # noqa: B019
    def _uneven(self, reads: frozenset[Read]) -> tuple[str | None, str | None]:
        """The first instrument whose spans differ, the first with days between them."""
        uneven = None
        for instrument in self.instruments if len(reads) > 1 else ():
            spans = self.of(instrument, reads)
            if len(set(spans)) > 1:
                uneven = uneven or instrument
                if _has_gap(spans):
                    return uneven, instrument
        return uneven, None


def _has_gap(spans: Sequence[Span]) -> bool:
    """Whether days lie between two spans that belong to neither."""
    ordered = sorted((span for span in spans if span), key=lambda span: span.start)
    end = ordered[0].end if ordered else 0
    for span in ordered:
        if span.start > end:
            return True
        end = max(end, span.end)
    return False

"""The admin's date hierarchy for tables of millions of rows."""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

_Row = TypeVar("_Row", bound=Model)


class IndexedDates(QuerySet[_Row]):
    """Finds the years, months or days that have rows by looking each up in an index.

    Django would truncate the date of every row, to keep the different ones.
    """

    def aggregate(self, *args: Any, **wanted: Any) -> dict[str, Any]:
        """Each figure by a query of its own: of two at once, SQLite would look at every row."""
        if args or len(wanted) < 2:
            return super().aggregate(*args, **wanted)
        return {
            name: super(IndexedDates, self).aggregate(**{name: figure})[name]
            for name, figure in wanted.items()
        }

    def datetimes(  # type: ignore[override]
        self, field_name: str, kind: str, order: str = "ASC", tzinfo: tzinfo | None = None
    ) -> list[datetime]:
        """Starts of the years, months or days with rows, ascending. UTC, as all our instants."""
        known = self.exclude(**{f"{field_name}__isnull": True}).values_list(field_name, flat=True)
        first, last = known.order_by(field_name).first(), known.order_by(f"-{field_name}").first()
        if first is None or last is None:
            return []
        return [
            start
            for start, end in _spans(first, last, kind)
            if self.filter(**{f"{field_name}__gte": start, f"{field_name}__lt": end}).exists()
        ]


def _spans(first: datetime, last: datetime, kind: str) -> Iterator[tuple[datetime, datetime]]:
    """Years, months or days from the one of `first` to the one of `last`."""
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "year":
        start = start.replace(month=1, day=1)
    elif kind == "month":
        start = start.replace(day=1)
    while start <= last:
        end = _after(start, kind)
        yield start, end
        start = end


def _after(start: datetime, kind: str) -> datetime:
    if kind == "year":
        return start.replace(year=start.year + 1)
    if kind == "month":
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=1)


def indexed(rows: QuerySet[Any]) -> Any:
    """The same rows, with dates by index."""
    found = rows._chain()  # type: ignore[attr-defined]
    found.__class__ = type("Indexed", (IndexedDates, type(rows)), {})
    return found

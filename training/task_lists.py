"""Lists of tasks: filters, orders, and pages by the last row's place, not by its number.

Right while rows come and go, and no COUNT.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import DateTimeField, F, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast

from .errors import InvalidCursor
from .models import HEADLINES, TaskQuerySet

SALT = "training.task_lists"
_HEX = re.compile(r"[0-9a-f]{4}[0-9a-f-]*")
ORDERINGS = ("-created_at", "created_at", *(s + name for name in HEADLINES for s in ("-", "")))
"""With `-`: downwards."""


def instant(at: datetime) -> Combinable:
    """The instant as the database writes it, to be compared with `created_at`.

    SQLite's clock writes milliseconds into text, Django's parameters have microseconds:
    compared as they are, a row would lie before itself.
    """
    return Cast(Value(at, DateTimeField()), DateTimeField())


@dataclass(frozen=True)
class Order:
    """By what tasks are listed: a metric or none, then the creation, then the id.

    Downwards the newest of the same value come first, upwards the oldest, so that one index serves
    both. Those without the metric come last, whatever the order, the newest of them first.
    """

    metric: str | None
    descending: bool

    @classmethod
    def parse(cls, text: str) -> "Order":
        name = text.removeprefix("-")
        return cls(None if name == "created_at" else name, descending=text.startswith("-"))

    def parts(self, tasks: TaskQuerySet, mark: "Mark | None") -> Iterator[TaskQuerySet]:
        """The tasks after the mark, in two lists that follow each other: with and without it.

        No index would give both as one.
        """
        if self.metric is None:
            yield self._sorted(tasks, mark)
            return
        if mark is None or mark.value is not None:
            yield self._sorted(tasks.filter((f"{self.metric}__isnull", False)), mark)
            mark = None
        without = tasks.filter((f"{self.metric}__isnull", True))
        yield Order(self.metric, descending=True)._sorted(without, mark)

    def _sorted(self, tasks: TaskQuerySet, mark: "Mark | None") -> TaskQuerySet:
        sign = "-" if self.descending else ""
        terms: list[Any] = [f"{sign}created_at", f"{sign}id"]
        if self.metric:
            column = F(self.metric)
            # Where the empty ones would be: as the index has them, or it would not be read.
            down, up = column.desc(nulls_last=True), column.asc(nulls_first=True)
            terms.insert(0, down if self.descending else up)
        return tasks.filter(self._beyond(mark) if mark else Q()).order_by(*terms)

    def _beyond(self, mark: "Mark") -> Q:
        past = _past(mark, newest_first=self.descending)
        if self.metric is None or mark.value is None:
            return past
        further = Q((f"{self.metric}__{'lt' if self.descending else 'gt'}", mark.value))
        return further | (Q((self.metric, mark.value)) & past)


def _past(mark: "Mark", *, newest_first: bool) -> Q:
    side = "lt" if newest_first else "gt"
    at = instant(mark.created_at)
    beyond = Q((f"created_at__{side}", at)) | Q((f"id__{side}", mark.id))
    # The outer bound says nothing new, but an index serves it; the inner "or" none.
    return Q((f"created_at__{side}e", at)) & beyond


@dataclass(frozen=True)
class Mark:
    """The place of a page's last row."""

    value: float | None
    created_at: datetime
    id: str

    def sign(self, ordering: str) -> str:
        """The mark as a client carries it: opaque, and ours alone to make."""
        place = [ordering, self.value, self.created_at.isoformat(), self.id]
        return signing.dumps(place, salt=SALT)

    @classmethod
    def read(cls, cursor: str, *, ordering: str) -> "Mark":
        """Raises: InvalidCursor, if the cursor is not ours or of another order."""
        try:
            made_for, value, created_at, task_id = signing.loads(cursor, salt=SALT)
        except signing.BadSignature:
            raise InvalidCursor("not a cursor of this server") from None
        if made_for != ordering:
            raise InvalidCursor(f"was made for the order {made_for}")
        return cls(value, datetime.fromisoformat(created_at), task_id)


@dataclass(frozen=True)
class Page:
    """Some tasks, or rows of the columns asked for; the cursor of the next page if there is one."""

    tasks: list[Any]
    cursor: str | None


def page(
    tasks: TaskQuerySet,
    *,
    ordering: str,
    cursor: str,
    limit: int,
    columns: Sequence[str] | None = None,
) -> Page:
    """At most `limit` tasks after the cursor. Raises: InvalidCursor.

    columns: named tuples of these instead of tasks, in less time; `id` and `created_at`
    among them.
    """
    order = Order.parse(ordering)
    mark = Mark.read(cursor, ordering=ordering) if cursor else None
    found: list[Any] = []
    for part in order.parts(tasks, mark):
        if len(found) <= limit:
            found += _only(part, order, columns)[: limit + 1 - len(found)]
    if len(found) <= limit:
        return Page(found, None)
    return Page(found[:limit], _mark(found[limit - 1], order).sign(ordering))


def _only(rows: TaskQuerySet, order: Order, columns: Sequence[str] | None) -> Any:
    if columns is None:
        return rows
    return rows.values_list(*columns, *([order.metric] if order.metric else []), named=True)


def _mark(task: Any, order: Order) -> Mark:
    value = getattr(task, order.metric) if order.metric else None
    if value is not None and not math.isfinite(value):
        value = None
    return Mark(value, task.created_at, task.id)


def start_of_id(text: str) -> str:
    """The same with its `task-`, which lists leave out: four hexadecimal digits mean an id."""
    return f"task-{text}" if _HEX.fullmatch(text) else text


def wanted(asked: dict[str, Any]) -> Q:
    """The filters that were asked for, together: `status` (several), `owner`, `dataset`, `model`,
    `tag`, `q` (the start of an id, with or without `task-`, or a part of a name),
    `created_after`, `created_before`.
    """
    same = {
        "owner": "owner__username",
        "dataset": "dataset",
        "model": "model",
        "tag": "tag_rows__name",
    }
    found = Q(**{column: asked[name] for name, column in same.items() if asked.get(name)})
    if asked.get("status"):
        found &= Q(status__in=sorted(asked["status"]))
    if asked.get("q"):
        found &= Q(id__startswith=start_of_id(asked["q"])) | Q(name__icontains=asked["q"])
    if asked.get("created_after"):
        found &= Q(created_at__gte=instant(asked["created_after"]))
    if asked.get("created_before"):
        found &= Q(created_at__lt=instant(asked["created_before"]))
    return found

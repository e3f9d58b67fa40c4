"""Rows by the start of a task's id, from the index."""

from typing import Any

from django.db import connection
from django.db.models import QuerySet

TASK_ID_LENGTH = 41


def with_id(rows: QuerySet[Any], column: str, start: str) -> QuerySet[Any]:
    """Rows whose task's id begins so, found by the index."""
    if len(start) == TASK_ID_LENGTH:
        return rows.filter(**{column: start})
    if connection.vendor == "sqlite":
        # Its LIKE reads every row; "~" comes after all that an id is made of.
        return rows.filter(**{f"{column}__gte": start, f"{column}__lt": f"{start}~"})
    return rows.filter(**{f"{column}__startswith": start})

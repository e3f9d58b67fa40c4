"""Pages of the API: the next one's address, and cursors that are none."""

from collections.abc import Sequence

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from training import task_lists
from training.errors import InvalidCursor
from training.models import TaskQuerySet
from training.task_lists import Page


def page(
    tasks: TaskQuerySet, columns: Sequence[str], *, ordering: str, cursor: str, limit: int
) -> Page:
    """Rows of at most `limit` tasks after the cursor. Raises: ValidationError."""
    try:
        return task_lists.page(
            tasks, ordering=ordering, cursor=cursor, limit=limit, columns=columns
        )
    except InvalidCursor as error:
        raise ValidationError({"cursor": error.message}) from None


def next_url(request: Request, **changes: str | int) -> str:
    """This request's address with some parameters changed."""
    query = request.query_params.copy()
    for name, value in changes.items():
        query[name] = str(value)
    path: str = request.build_absolute_uri(request.path)
    return f"{path}?{query.urlencode()}"

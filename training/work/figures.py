"""Computes what the web asked for and can't work out itself: the second job that a ring can name.

Pandas is imported when it is needed: the worker's lasting process, whose memory every fork shares,
does without it.
"""

import logging
from pathlib import Path

from django.db import connection

from training import archive, figures
from training.models import Figure

log = logging.getLogger(__name__)


def compute(key: str) -> None:
    """Fill in the figure of this key, unless another worker has."""
    try:
        row = Figure.objects.filter(pk=key, computed_at__isnull=True).first()
        if row is not None:
            _fill(row)
    finally:
        connection.close()


def _fill(row: Figure) -> None:
    try:
        value = _COMPUTE[row.kind](row)
    except Exception as error:
        log.exception("figure %s", row.key)
        figures.keep(row.key, error=f"{type(error).__name__}: {error}"[:500])
    else:
        figures.keep(row.key, value=value)


def _correlation(row: Figure) -> dict[str, object]:
    from training.engine import comparison

    found: dict[str, object] = comparison.correlations(
        {attempt.split("/")[0]: _predictions(attempt) for attempt in row.asked["attempts"]}
    )
    return found


def _predictions(attempt: str) -> Path:
    """attempt: `task-…/1`, as `figures.correlation` has made it of rows."""
    task_id, _, number = attempt.partition("/")
    return archive.brought(task_id, int(number)) / "predictions.parquet"


_COMPUTE = {"correlation": _correlation}

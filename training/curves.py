"""Training curves: rows while the attempt runs, a file afterwards, the same points."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from . import archive
from .downsample import largest_triangles
from .events import instant
from .models import TrainingTask
from .sanitise import clean

Point = dict[str, Any]
"""`name`, `step`, `value` (None: not finite), `at` (ISO 8601)."""

place = itemgetter("name", "step")


def points_of(task: TrainingTask, attempt: int, name: str | None = None) -> list[Point]:
    """All points of the attempt, or of one of its curves, by name and step."""
    found = _of_file(task, attempt)
    if found is None:
        # No rows either: then they may have become a file between both looks.
        found = _of_rows(task, attempt) or _of_file(task, attempt) or []
    return sorted((point for point in found if name in (None, point["name"])), key=place)


def _of_file(task: TrainingTask, attempt: int) -> list[Point] | None:
    try:
        text = (archive.folder(task, attempt) / archive.CURVES).read_text()
    except FileNotFoundError:
        return None
    points: list[Point] = clean(json.loads(text))
    return points


def _of_rows(task: TrainingTask, attempt: int) -> list[Point]:
    rows = task.points.filter(attempt=attempt).values_list("name", "step", "value", "at")
    return [
        {"name": name, "step": step, "value": value, "at": instant(at)}
        for name, step, value, at in rows
    ]


def thinned(points: Iterable[Point], count: int) -> Iterator[Point]:
    """At most `count` points of each curve; those without a value are left out."""
    for _, curve in groupby(points, key=itemgetter("name")):
        known = [point for point in curve if _is_number(point["value"])]
        kept = largest_triangles([(point["step"], point["value"]) for point in known], count)
        yield from (known[index] for index in kept)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)

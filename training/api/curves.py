"""Training curves: rows while the attempt runs, a file afterwards, the same points."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.core import signing
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import archive, services
from training.downsample import largest_triangles
from training.events import instant
from training.models import TrainingTask
from training.sanitise import clean

from . import queries, serializers
from .authentication import caller
from .logs import attempt_of
from .pagination import next_url
from .schema import failures

SALT = "training.api.curves"
PAGE = queries.MAX_POINTS

Point = dict[str, Any]
_place = itemgetter("name", "step")


class TaskMetrics(APIView):
    """How a training went."""

    @extend_schema(
        operation_id="list_metrics",
        parameters=[queries.CurvesQuery],
        responses={200: serializers.PointPage, **failures(400, 404)},
    )
    def get(self, request: Request, task_id: str) -> Response:
        """Points of the training curves, by name and step; live while it runs."""
        asked = queries.read(request, queries.CurvesQuery)
        task = services.visible(task_id, user=caller(request))
        points = _points(task, attempt_of(task, asked.get("attempt")), asked.get("name"))
        if "points" in asked:
            thin = list(_thinned(points, asked["points"]))
            return Response({"results": thin, "next": None})
        after = _place_of(asked.get("cursor", ""))
        rest = [point for point in points if _place(point) > after]
        return Response({"results": rest[:PAGE], "next": _next(request, rest)})


def _points(task: TrainingTask, attempt: int, name: str | None) -> list[Point]:
    """All points of the attempt, or of one of its curves, by name and step."""
    found = _of_file(task, attempt)
    if found is None:
        # No rows either: then they may have become a file between both looks.
        found = _of_rows(task, attempt) or _of_file(task, attempt) or []
    return sorted((point for point in found if name in (None, point["name"])), key=_place)


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


def _thinned(points: Iterable[Point], count: int) -> Iterator[Point]:
    """At most `count` points of each curve; those without a value are left out."""
    for _, curve in groupby(points, key=itemgetter("name")):
        known = [point for point in curve if _is_number(point["value"])]
        kept = largest_triangles([(point["step"], point["value"]) for point in known], count)
        yield from (known[index] for index in kept)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _next(request: Request, rest: list[Point]) -> str | None:
    if len(rest) <= PAGE:
        return None
    return next_url(request, cursor=signing.dumps(_place(rest[PAGE - 1]), salt=SALT))


def _place_of(cursor: str) -> tuple[str, int]:
    if not cursor:
        return ("", -1)
    try:
        name, step = signing.loads(cursor, salt=SALT)
    except signing.BadSignature:
        raise ValidationError({"cursor": "not a cursor of this server"}) from None
    return name, step

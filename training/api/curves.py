"""Training curves over HTTP."""

from typing import Any

from django.core import signing
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import services
from training.curves import Point, place, points_of, thinned
from training.models import TrainingTask

from . import queries, serializers
from .authentication import caller
from .conditional import KNOWN, unless_known
from .logs import attempt_of
from .pagination import next_url
from .schema import failures

SALT = "training.api.curves"
PAGE = queries.MAX_POINTS


class TaskMetrics(APIView):
    """How a training went."""

    @extend_schema(
        operation_id="list_metrics",
        parameters=[queries.CurvesQuery],
        responses={200: serializers.PointPage, **KNOWN, **failures(400, 404, 503)},
    )
    def get(self, request: Request, task_id: str) -> Response:
        """Points of the training curves, by name and step; live while it runs."""
        asked = queries.read(request, queries.CurvesQuery)
        task = services.visible(task_id, user=caller(request))
        attempt = attempt_of(task, asked.get("attempt"))
        if not task.is_final:
            return Response(_page(request, task, attempt, asked))
        version = f"{task.id}-{task.attempt}"
        return unless_known(request, version, lambda: _page(request, task, attempt, asked))


def _page(
    request: Request, task: TrainingTask, attempt: int, asked: dict[str, Any]
) -> dict[str, Any]:
    points = points_of(task, attempt, asked.get("name"))
    if "points" in asked:
        return {"results": list(thinned(points, asked["points"])), "next": None}
    after = _place_of(asked.get("cursor", ""))
    rest = [point for point in points if place(point) > after]
    return {"results": rest[:PAGE], "next": _next(request, rest)}


def _next(request: Request, rest: list[Point]) -> str | None:
    if len(rest) <= PAGE:
        return None
    return next_url(request, cursor=signing.dumps(place(rest[PAGE - 1]), salt=SALT))


def _place_of(cursor: str) -> tuple[str, int]:
    if not cursor:
        return ("", -1)
    try:
        name, step = signing.loads(cursor, salt=SALT)
    except signing.BadSignature:
        raise ValidationError({"cursor": "not a cursor of this server"}) from None
    return name, step

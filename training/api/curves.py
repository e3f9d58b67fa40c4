"""Training curves over HTTP."""

from django.core import signing
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import services
from training.curves import Point, place, points_of, thinned

from . import queries, serializers
from .authentication import caller
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
        responses={200: serializers.PointPage, **failures(400, 404)},
    )
    def get(self, request: Request, task_id: str) -> Response:
        """Points of the training curves, by name and step; live while it runs."""
        asked = queries.read(request, queries.CurvesQuery)
        task = services.visible(task_id, user=caller(request))
        points = points_of(task, attempt_of(task, asked.get("attempt")), asked.get("name"))
        if "points" in asked:
            thin = list(thinned(points, asked["points"]))
            return Response({"results": thin, "next": None})
        after = _place_of(asked.get("cursor", ""))
        rest = [point for point in points if place(point) > after]
        return Response({"results": rest[:PAGE], "next": _next(request, rest)})


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

"""Several tasks over each other."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import comparison, figures, services

from . import queries, result_shapes
from .authentication import caller
from .schema import failures

_NOTHING: dict[str, Any] = {"tasks": [], "pearson": [], "rank": [], "days": []}


class Compare(APIView):
    """What makes the difference."""

    @extend_schema(
        operation_id="compare_tasks",
        parameters=[queries.CompareQuery],
        responses={200: result_shapes.ComparisonShape, **failures(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """Two to twenty tasks: metrics, differences of their configs, curves, and how alike their
        predictions are. The last is computed by a worker: ask again while it is `waiting`."""
        asked = queries.read(request, queries.CompareQuery)
        tasks = services.visible_each(asked["task"], user=caller(request))
        told = comparison.compare(tasks, points=asked["points"])
        return Response({**told, "correlation": _to_wire(services.correlation(tasks))})


def _to_wire(answer: figures.Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"state": answer.state, "error": answer.error, **(answer.value or _NOTHING)}

"""Several tasks over each other."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import comparison, figures, reports, services

from . import queries, result_shapes
from .authentication import caller
from .conditional import KNOWN, unless_known
from .schema import failures

_NOTHING: dict[str, Any] = {"tasks": [], "pearson": [], "rank": [], "days": []}


class Compare(APIView):
    """What makes the difference."""

    @extend_schema(
        operation_id="compare_tasks",
        parameters=[queries.CompareQuery],
        responses={200: result_shapes.ComparisonShape, **KNOWN, **failures(400, 404, 503)},
    )
    def get(self, request: Request) -> Response:
        """Two to twenty tasks: metrics, differences of their configs, curves, and how alike their
        predictions are. The last is computed by a worker: ask again while it is `waiting`."""
        asked = queries.read(request, queries.CompareQuery)
        if len(set(asked["task"])) < 2:
            raise ValidationError({"task": "two different tasks are needed at least"})
        tasks = services.visible_each(asked["task"], user=caller(request))
        alike = services.correlation(tasks)

        def build() -> dict[str, Any]:
            told = comparison.compare(tasks, points=asked["points"])
            return {**told, "correlation": _to_wire(alike)}

        if not all(task.is_final for task in tasks) or (alike and alike.state != "ready"):
            return Response(build())
        return unless_known(request, " ".join(map(reports.version_of, tasks)), build)


def _to_wire(answer: figures.Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"state": answer.state, "error": answer.error, **(answer.value or _NOTHING)}

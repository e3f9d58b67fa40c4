"""The report of a completed task, for pictures."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import reports, services

from . import queries, result_shapes
from .authentication import caller
from .conditional import KNOWN, unless_known
from .schema import failures


class TaskReport(APIView):
    """What a training has come to, day by day."""

    @extend_schema(
        operation_id="get_report",
        parameters=[queries.ReportQuery],
        responses={
            200: result_shapes.ReportShape,
            **KNOWN,
            **failures(400, 404, 409, 503),
        },
    )
    def get(self, request: Request, task_id: str) -> Response:
        """Series of the backtest, IC, groups, months and features; a block whose record the
        workflow did not ask for is absent. Returns are fractions and added up."""
        asked = queries.read(request, queries.ReportQuery)
        task = services.visible(task_id, user=caller(request))
        # Whether there is one is said before whether it is known.
        reports.file_of(task)
        return unless_known(
            request,
            reports.version_of(task),
            lambda: reports.of(task, points=asked.get("points")),
        )

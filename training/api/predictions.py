"""Predictions and positions of a completed task, as JSON or CSV."""

import csv
import io
from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from training import outcomes, reports, services
from training.outcomes import Slice

from . import queries, result_shapes
from .authentication import caller
from .conditional import KNOWN, unless_known
from .negotiation import AnyAccept
from .pagination import next_url
from .schema import failures

_View = TypeVar("_View", bound=Callable[..., HttpResponseBase])


def _documented(operation_id: str, page: type) -> Callable[[_View], _View]:
    return extend_schema(
        operation_id=operation_id,
        parameters=[queries.OutcomesQuery],
        responses={
            (200, "application/json"): page,
            (200, "text/csv"): OpenApiTypes.STR,
            **KNOWN,
            **failures(400, 404, 409, 503),
        },
    )


class TaskPredictions(APIView):
    """What the model foretold."""

    content_negotiation_class = AnyAccept

    @_documented("list_predictions", result_shapes.PredictionPage)
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """Scores of a day, the best first; of an instrument, by day; or of the newest day."""
        asked = queries.read(request, queries.OutcomesQuery)
        task = services.visible(task_id, user=caller(request))
        if asked["as"] == "csv":
            found = outcomes.scores(task, **_wanted(asked))
            return _as_csv(found, name=f"{task.id}-predictions.csv")

        def build() -> dict[str, Any]:
            return _page(request, outcomes.scores(task, **_wanted(asked)), asked)

        return unless_known(request, reports.version_of(task), build)


class TaskPositions(APIView):
    """What the backtest held."""

    content_negotiation_class = AnyAccept

    @_documented("list_positions", result_shapes.PositionPage)
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """Positions at the end of a day, the largest first; or of an instrument, by day."""
        asked = queries.read(request, queries.OutcomesQuery)
        task = services.visible(task_id, user=caller(request))
        if asked["as"] == "csv":
            found = outcomes.positions(task, **_wanted(asked))
            return _as_csv(found, name=f"{task.id}-positions.csv")

        def build() -> dict[str, Any]:
            found = outcomes.positions(task, **_wanted(asked))
            account = outcomes.account(task, found.date) if found.date else None
            return {**_page(request, found, asked), "account": account}

        return unless_known(request, reports.version_of(task), build)


def _wanted(asked: dict[str, Any]) -> dict[str, Any]:
    """What to read; a CSV file has all rows at once."""
    day = asked.get("date")
    wanted = {"date": day.isoformat() if day else None, "instrument": asked.get("instrument")}
    if asked["as"] == "json":
        wanted |= {"offset": asked["offset"], "limit": asked["limit"]}
    return wanted


def _page(request: Request, found: Slice, asked: dict[str, Any]) -> dict[str, Any]:
    following = next_url(request, offset=asked["offset"] + asked["limit"]) if found.more else None
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    return {"results": rows, "next": following, "date": found.date}


def _as_csv(found: Slice, *, name: str) -> HttpResponse:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(found.columns)
    writer.writerows(found.rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)

"""A task's numbered events."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import services
from training.events import to_wire

from . import queries, serializers
from .authentication import caller
from .pagination import next_url
from .schema import failures


class TaskEvents(APIView):
    """What happened to a task."""

    @extend_schema(
        operation_id="list_events",
        parameters=[queries.EventsQuery],
        responses={200: serializers.EventPage, **failures(400, 404)},
    )
    def get(self, request: Request, task_id: str) -> Response:
        """Events after a number, oldest first."""
        asked = queries.read(request, queries.EventsQuery)
        task = services.visible(task_id, user=caller(request))
        rows = task.events.filter(seq__gt=asked["after"]).order_by("seq")
        found = list(rows[: asked["limit"] + 1])
        events = found[: asked["limit"]]
        more = len(found) > len(events)
        following = next_url(request, after=events[-1].seq) if more else None
        return Response({"results": [to_wire(event) for event in events], "next": following})

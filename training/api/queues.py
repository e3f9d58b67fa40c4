"""The queues and their load."""

from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q
from django.db.models.functions import Now
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training.models import TrainingTask, Worker
from training.states import OPEN, Status

from . import queries, serializers
from .schema import failures

_IDLE = {"pending": 0, "running": 0, "oldest": None, "now": None}


class QueueList(APIView):
    """Where tasks wait."""

    @extend_schema(
        operation_id="list_queues", responses={200: serializers.QueuePage, **failures(400)}
    )
    def get(self, request: Request) -> Response:
        """Each queue's load over all owners, and the workers that serve it."""
        queries.read(request, queries.NoQuery)
        found = {load["queue"]: load for load in loads()}
        live = Worker.objects.alive().filter(draining=False).values_list("queue")
        workers = dict(live.annotate(count=Count("name")))
        results = [
            _to_wire(name, found.get(name, _IDLE), workers.get(name, 0)) for name in settings.QUEUES
        ]
        return Response({"results": results, "next": None})


def loads() -> Any:
    """Pending, running and the oldest pending task's creation, by queue."""
    pending = Q(status=Status.PENDING)
    return (
        TrainingTask.objects.filter(status__in=sorted(OPEN))
        .values("queue")
        .annotate(
            pending=Count("id", filter=pending),
            running=Count("id", filter=Q(status=Status.RUNNING)),
            oldest=Min("created_at", filter=pending),
            now=Now(),
        )
    )


def _to_wire(name: str, load: dict[str, Any], workers: int) -> dict[str, Any]:
    oldest = load["oldest"]
    waited_s = (load["now"] - oldest).total_seconds() if oldest else None
    return {
        "name": name,
        "pending": load["pending"],
        "running": load["running"],
        "workers": workers,
        "oldest_pending_s": waited_s,
    }

"""The queues and their load."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import crew

from . import queries, serializers
from .schema import failures


class QueueList(APIView):
    """Where tasks wait."""

    @extend_schema(
        operation_id="list_queues", responses={200: serializers.QueuePage, **failures(400)}
    )
    def get(self, request: Request) -> Response:
        """Each queue's load over all owners, and the workers that serve it."""
        queries.read(request, queries.NoQuery)
        results = [
            {
                "name": one.name,
                "pending": one.pending,
                "running": one.running,
                "workers": one.workers,
                "oldest_pending_s": one.oldest_s,
            }
            for one in crew.queues()
        ]
        return Response({"results": results, "next": None})

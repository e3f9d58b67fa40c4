"""Workers: who is there, what they run; drained and resumed by the staff."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import crew, services
from training.events import instant

from . import queries, serializers
from .authentication import caller
from .bodies import Unread
from .schema import failures


class WorkerList(APIView):
    """The workers."""

    @extend_schema(
        operation_id="list_workers", responses={200: serializers.WorkerPage, **failures(400)}
    )
    def get(self, request: Request) -> Response:
        """All workers that are there or were so within a day, by name."""
        queries.read(request, queries.NoQuery)
        found = crew.members(request.user)
        return Response({"results": [_to_wire(member) for member in found], "next": None})


class WorkerDrain(APIView):
    """The wish that a worker takes nothing more."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="drain_worker",
        request=None,
        responses={200: serializers.WorkerShape, **failures(403, 404)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Let it end what it runs and take no more tasks. For the staff."""
        services.drain(name, user=caller(request))
        return Response(_to_wire(crew.member(name, caller(request))))


class WorkerResume(APIView):
    """The wish that a worker works again."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="resume_worker",
        request=None,
        responses={200: serializers.WorkerShape, **failures(403, 404)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Let it take tasks again. For the staff."""
        services.drain(name, user=caller(request), draining=False)
        return Response(_to_wire(crew.member(name, caller(request))))


def _to_wire(member: crew.Member) -> dict[str, Any]:
    worker = member.worker
    return {
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "queue": worker.queue,
        "alive": member.alive,
        "draining": worker.draining,
        "busy": member.busy_count > 0,
        "tasks": list(member.runs),
        "cores": worker.cores,
        "memory_bytes": worker.memory_bytes,
        "used_bytes": worker.used_bytes,
        "extras": worker.extras,
        "versions": worker.versions,
        "started_at": instant(worker.started_at),
        "seen_at": instant(worker.seen_at),
    }

"""The log of an attempt over HTTP."""

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from training import services
from training.attempt_log import is_over, part_of
from training.errors import NotFound
from training.models import TrainingTask

from . import queries
from .authentication import caller
from .negotiation import AnyAccept
from .schema import failures

_HEADERS = {
    "X-Log-Attempt": "the attempt",
    "X-Log-Offset": "where this part begins",
    "X-Log-Next-Offset": "where to go on",
    "X-Log-Complete": "`true`: the attempt is over, and nothing follows this part",
}


class TaskLog(APIView):
    """What Qlib, its libraries and our stages have said."""

    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="get_log",
        parameters=[
            queries.LogQuery,
            *(
                OpenApiParameter(
                    name, str, OpenApiParameter.HEADER, response=[200], description=meaning
                )
                for name, meaning in _HEADERS.items()
            ),
        ],
        responses={(200, "text/plain"): OpenApiTypes.STR, **failures(400, 404)},
    )
    def get(self, request: Request, task_id: str) -> HttpResponse:
        """The log from a byte on, at most 1 MiB of it; works while the training runs."""
        asked = queries.read(request, queries.LogQuery)
        task = services.visible(task_id, user=caller(request))
        attempt = attempt_of(task, asked.get("attempt"))
        over = is_over(task, attempt)
        part = part_of(task, attempt, offset=asked["offset"])
        headers = {
            "X-Log-Attempt": str(attempt),
            "X-Log-Offset": str(part.offset),
            "X-Log-Next-Offset": str(part.offset + len(part.text)),
            "X-Log-Complete": "true" if over and part.last else "false",
            "X-Content-Type-Options": "nosniff",
        }
        return HttpResponse(part.text, content_type="text/plain; charset=utf-8", headers=headers)


def attempt_of(task: TrainingTask, asked: int | None) -> int:
    """The asked attempt, by default the newest; 0 if there was none yet. Raises: NotFound."""
    if asked is not None and asked > task.attempt:
        raise NotFound(f"{task.id} has had {task.attempt} attempts, there is no {asked}")
    return task.attempt if asked is None else asked

"""The log of an attempt over HTTP."""

from collections.abc import Iterator

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from training import services
from training.attempt_log import end_of, is_over, part_of
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
        responses={(200, "text/plain"): OpenApiTypes.STR, **failures(400, 404, 503)},
    )
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """All of the log, or at most 1 MiB from a byte on; works while the training runs."""
        asked = queries.read(request, queries.LogQuery)
        task = services.visible(task_id, user=caller(request))
        attempt = attempt_of(task, asked.get("attempt"))
        over = is_over(task, attempt)
        if "offset" not in asked:
            end = end_of(task, attempt)
            headers = {
                **_headers(attempt, begin=0, end=end, complete=over),
                "Content-Length": str(end),
            }
            if request.method == "HEAD":
                return HttpResponse(headers=headers)
            return StreamingHttpResponse(_whole(task, attempt, end), headers=headers)
        part = part_of(task, attempt, offset=asked["offset"])
        end = part.offset + len(part.text)
        headers = _headers(attempt, begin=part.offset, end=end, complete=over and part.last)
        return HttpResponse(part.text, headers=headers)


def _headers(attempt: int, *, begin: int, end: int, complete: bool) -> dict[str, str]:
    return {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Log-Attempt": str(attempt),
        "X-Log-Offset": str(begin),
        "X-Log-Next-Offset": str(end),
        "X-Log-Complete": "true" if complete else "false",
        "X-Content-Type-Options": "nosniff",
    }


def _whole(task: TrainingTask, attempt: int, end: int) -> Iterator[bytes]:
    """The log up to the byte `end`, in parts."""
    offset = 0
    while offset < end:
        part = part_of(task, attempt, offset=offset)
        if not part.text:
            return  # the task was deleted meanwhile
        yield part.text[: end - offset]
        offset += len(part.text)


def attempt_of(task: TrainingTask, asked: int | None) -> int:
    """The asked attempt, by default the newest; 0 if there was none yet. Raises: NotFound."""
    if asked is not None and asked > task.attempt:
        raise NotFound(f"{task.id} is at attempt {task.attempt}, there is no {asked}")
    return task.attempt if asked is None else asked

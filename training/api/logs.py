"""The log of an attempt: rows while it runs, a file afterwards, the same bytes."""

from dataclasses import dataclass
from pathlib import Path

from django.db.models import F
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from training import archive, services
from training.errors import NotFound
from training.models import TrainingTask
from training.states import Status

from . import queries
from .authentication import caller
from .negotiation import AnyAccept
from .schema import failures

MAX_BYTES = 1024 * 1024
"""The most of a log that one answer has."""

_HEADERS = {
    "X-Log-Attempt": "the attempt",
    "X-Log-Offset": "where this part begins",
    "X-Log-Next-Offset": "where to go on",
    "X-Log-Complete": "`true`: the attempt is over, and nothing follows this part",
}


@dataclass(frozen=True)
class Part:
    """Some bytes of a log, and where they begin; last: there are none behind them now."""

    offset: int
    text: bytes
    last: bool


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
        part = _part(task, attempt, offset=asked["offset"])
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


def is_over(task: TrainingTask, attempt: int) -> bool:
    """Whether nothing more can come from the attempt."""
    if attempt < task.attempt or task.is_final:
        return True
    return task.status == Status.PENDING and attempt > 0


def _part(task: TrainingTask, attempt: int, *, offset: int) -> Part:
    path = archive.folder(task, attempt) / archive.LOG
    return (
        _from_file(path, offset)
        or _from_rows(task, attempt, offset)
        # Between both looks the rows may have become a file.
        or _from_file(path, offset)
        or Part(offset, b"", last=True)
    )


def _from_file(path: Path, offset: int) -> Part | None:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    return _cut(offset, text)


def _from_rows(task: TrainingTask, attempt: int, offset: int) -> Part | None:
    rows = task.log_chunks.filter(attempt=attempt, offset__gt=offset - F("size"))
    text, begin = b"", offset
    for chunk_offset, chunk in rows.order_by("offset").values_list("offset", "text").iterator():
        if not text:
            begin = max(offset, chunk_offset)
        text += chunk.encode()[max(begin - chunk_offset, 0) if not text else 0 :]
        if len(text) > MAX_BYTES:
            break
    return _cut(begin, text) if text else None


def _cut(offset: int, text: bytes) -> Part:
    """At most MAX_BYTES, and no character cut in two."""
    if len(text) <= MAX_BYTES:
        return Part(offset, text, last=True)
    end = MAX_BYTES
    while end and text[end] & 0xC0 == 0x80:
        end -= 1
    return Part(offset, text[:end], last=False)

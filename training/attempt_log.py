"""The log of an attempt: rows while it runs, a file afterwards, the same bytes."""

from dataclasses import dataclass
from pathlib import Path

from django.db.models import F

from . import archive
from .models import TrainingTask
from .states import Status

MAX_BYTES = 1024 * 1024
"""The most of a log that is read at once."""


@dataclass(frozen=True)
class Part:
    """Some bytes of a log, and where they begin; last: there are none behind them now."""

    offset: int
    text: bytes
    last: bool


def is_over(task: TrainingTask, attempt: int) -> bool:
    """Whether nothing more can come from the attempt."""
    if attempt < task.attempt or task.is_final:
        return True
    return task.status == Status.PENDING and attempt > 0


def part_of(task: TrainingTask, attempt: int, *, offset: int) -> Part:
    """The log from a byte on, at most MAX_BYTES of it."""
    path = archive.folder(task, attempt) / archive.LOG
    return (
        _from_file(path, offset)
        or _from_rows(task, attempt, offset)
        # Between both looks the rows may have become a file.
        or _from_file(path, offset)
        or Part(offset, b"", last=True)
    )


def end_of(task: TrainingTask, attempt: int) -> int:
    """How many bytes the log has now."""
    path = archive.folder(task, attempt) / archive.LOG
    if path.is_file():
        return path.stat().st_size
    last = task.log_chunks.filter(attempt=attempt).order_by("-offset").values_list("offset", "size")
    return sum(last.first() or (0, 0))


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

"""Which request and which task a log line belongs to.

The ids stand on every line that a process writes: as fields of JSON, or in brackets at the end.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_context: ContextVar[Mapping[str, str]] = ContextVar("ids", default={})  # noqa: B039 - never changed

_process: dict[str, str] = {}
"""Ids that hold for the whole process: a work-horse leads one task, with several threads."""


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """What is logged meanwhile, in this thread or coroutine, carries these ids."""
    token = _context.set({**_context.get(), **ids})
    try:
        yield
    finally:
        _context.reset(token)


def known(name: str) -> dict[str, str]:
    """The id of this name, under its name, where there is one; for those who carry it further."""
    value = _context.get().get(name)
    return {name: value} if value else {}


def stamp(**ids: str) -> None:
    """What is logged from now on in this coroutine, to its end, carries these ids."""
    _context.set({**_context.get(), **ids})


def stamp_process(**ids: str) -> None:
    """What this process logs from now on carries these ids."""
    _process.update(ids)


class Ids(logging.Filter):
    """Puts the ids on each record: as attributes for JSON, as `about` for plain text."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        ids = {**_process, **_context.get()}
        for name, value in ids.items():
            setattr(record, name, value)
        told = " ".join(f"{name}={value}" for name, value in ids.items())
        record.about = f" [{told}]" if told else ""
        return True

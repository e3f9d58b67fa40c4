"""The newest state of every task, for the sockets that show lists.

A message or a look names tasks that have changed; a few times a second their rows are read,
once for all sockets, and each socket is offered what its user may see. A socket that is slow
gets the newest state only. The cursor is the id of an event so old that nothing before it can
still become visible: who resumes there may be told a state twice, and misses none. That a task
was deleted is told to open sockets, also when no message told of it; a client that was away
while one was deleted learns it by connecting without a cursor.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from django.db import Error as DatabaseError

from training.states import EventKind

from . import reads
from .publish import to_text
from .reads import State
from .watch import deleted_message

log = logging.getLogger(__name__)

FLUSH_S = 0.34
"""Between two readings: with the first state at most four messages a second and task."""

KNOWN_MAX = 20_000
"""Tasks whose state is remembered, to tell of their deletion."""

LOOKED_FOR = 2_000
"""Known tasks of which each look asks whether they still exist, in turn."""


class Reader(Protocol):
    """A socket that shows a list."""

    def offer(self, state: State, text: str) -> None:
        """Take the state if its user may see it."""


class Listing:
    """What the lists of this process show."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self._known: dict[str, State] = {}
        self._changed: set[str] = set()
        self._deleted: set[str] = set()
        self._safe_id: int | None = None
        self._flushing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether anyone shows a list."""
        return bool(self._readers)

    def cursor(self) -> str:
        """Where to resume, opaque to clients."""
        return base64.urlsafe_b64encode(f"e{self._safe_id or 0}".encode()).decode()

    async def open(self) -> None:
        """Know from where on changes are looked for. Raises: DatabaseError."""
        if self._safe_id is None:
            self._safe_id = await reads.run(reads.safe_event_id)

    def join(self, reader: Reader) -> None:
        """Offer every change to this reader from now on."""
        self._readers.add(reader)

    def leave(self, reader: Any) -> None:
        """Forget the reader, and with the last one everything."""
        self._readers.discard(reader)
        if not self._readers:
            self.__init__()  # type: ignore[misc]

    def know(self, states: Iterable[State]) -> None:
        """Remember what a reader has been told first."""
        for state in states:
            known = self._known.get(state.task_id)
            if known is None or known.seq < state.seq:
                self._remember(state)

    # ── News ────────────────────────────────────────────────────────────────────────────

    def hear(self, message: dict[str, Any]) -> None:
        """A message names a task that has changed."""
        if not self._readers:
            return
        told = self._deleted if message["kind"] == EventKind.DELETED else self._changed
        told.add(message["task_id"])
        self._flush_soon()

    async def look(self) -> None:
        """Find changes and deletions that no message told of. Raises: DatabaseError."""
        if not self._readers or self._safe_id is None:
            return
        newer = await reads.run(reads.changed_since, self._safe_id)
        self._safe_id = await reads.run(reads.safe_event_id)
        self._changed |= {key for key, seq in newer.items() if self._seq_of(key) < seq}
        asked = list(self._known)[:LOOKED_FOR]
        there = await reads.run(reads.newest_seqs, asked)
        self._deleted |= set(asked) - there.keys()
        for task_id in there:
            if task_id in self._known:
                # To the end of the line, so that the others are asked for next time.
                self._known[task_id] = self._known.pop(task_id)
        self._flush_soon()

    def _seq_of(self, task_id: str) -> int:
        known = self._known.get(task_id)
        return known.seq if known else 0

    def _flush_soon(self) -> None:
        if (self._changed or self._deleted) and self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while (self._changed or self._deleted) and self._readers:
                await self._tell()
                await asyncio.sleep(FLUSH_S)
        except DatabaseError as error:
            log.warning("changed tasks could not be read, a look will: %r", error)
        finally:
            self._flushing = None

    async def _tell(self) -> None:
        changed, self._changed = self._changed, set()
        for state in await reads.run(reads.states_of, changed):
            if self._seq_of(state.task_id) < state.seq:
                self._remember(state)
                self._offer(state)
        deleted, self._deleted = self._deleted, set()
        for task_id in deleted:
            if task_id in self._known:
                state = self._known.pop(task_id)
                seq = state.seq + 1
                message = deleted_message(state.message, seq=seq)
                self._offer(state._replace(seq=seq, message=message))

    def _offer(self, state: State) -> None:
        text = to_text({**state.message, "cursor": self.cursor()})
        for reader in self._readers:
            reader.offer(state, text)

    def _remember(self, state: State) -> None:
        self._known.pop(state.task_id, None)
        self._known[state.task_id] = state
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]


def event_id_of(cursor: str | None) -> int | None:
    """The event that a cursor names; None for a cursor that is none of ours."""
    try:
        text = base64.urlsafe_b64decode((cursor or "").encode("ascii")).decode("ascii")
        return int(text.removeprefix("e")) if text.startswith("e") else None
    except (binascii.Error, ValueError):
        return None

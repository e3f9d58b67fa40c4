"""What one web process knows of one watched task: the tail of its events, for all its sockets.

A socket owns no queue; it owns the number of the last event that it was sent. The tail serves
whoever is nearly up to date; whoever is further behind reads pages from the database, sockets
at the same place together.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from django.utils import timezone

from training.events import instant
from training.states import EventKind

from . import daphne_socket, reads
from .publish import to_text
from .reads import Line

TAIL_LINES = 512
TAIL_CHARS = 524_288
"""What is kept of the newest events; older ones are in the database."""

NEWS_MAX_CHARS = 32_768
"""What is written to a socket at once; more than this its own writer sends, line by line."""


class Pruned(Exception):
    """Events that were asked for are not kept any more: a snapshot stands for them."""


@dataclass(frozen=True, slots=True)
class News:
    """Lines that have just come, dense, as frames that are built once for all sockets."""

    first: int
    last: int
    frames: bytes


class Watcher(Protocol):
    """Someone who waits for news of the task."""

    wake: asyncio.Event

    def tell(self, news: News) -> None:
        """Send the news at once if that is all there is to send, else wake up."""


class Watch:
    """The tail of one task. `end` is the number of its newest known event, in dense order."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.task_id: str = snapshot["task_id"]
        self.end: int = snapshot["seq"]
        self.gone = False
        self.watchers: set[Watcher] = set()
        self._state = {**snapshot, "data": {}}
        self._tail: list[Line] = []
        self._chars = 0
        self._pages: dict[int, asyncio.Task[list[Line]]] = {}

    # ── In ──────────────────────────────────────────────────────────────────────────────

    def extend(self, lines: Iterable[Line]) -> None:
        """Add what follows; what is known already is passed over."""
        fresh: list[Line] = []
        for line in lines:
            if line.seq <= self.end:
                continue
            if line.seq != self.end + 1:
                # Pruned in between: the tail must stay dense, older sockets get a snapshot.
                self._tail, self._chars, fresh = [], 0, []
            self._add(line)
            fresh.append(line)
        if fresh:
            self._tell(fresh)
            self._trim()

    def _tell(self, fresh: list[Line]) -> None:
        """Give the lines to the sockets: joined, so that each is written to once."""
        if sum(len(line.text) for line in fresh) > NEWS_MAX_CHARS:
            self._wake_all()
            return
        frames = daphne_socket.frames(line.text for line in fresh)
        news = News(fresh[0].seq, fresh[-1].seq, frames)
        for watcher in self.watchers:
            watcher.tell(news)

    def end_with(self, deleted: Line) -> None:
        """The task is gone, and its events with it: this is the last line."""
        if self.gone:
            return
        self.gone = True
        self._add(deleted._replace(seq=max(deleted.seq, self.end + 1)))
        self._wake_all()

    def vanished(self) -> None:
        """The task is gone and nobody told: say what would have been said."""
        seq = self.end + 1
        told = deleted_message(self.state(), seq=seq)
        self.end_with(Line(seq, EventKind.DELETED.value, to_text(told)))

    def _add(self, line: Line) -> None:
        self._tail.append(line)
        self._chars += len(line.text)
        self.end = line.seq

    def _trim(self) -> None:
        """Forget the older half, not one by one: each cut copies the list."""
        while len(self._tail) > TAIL_LINES or (self._chars > TAIL_CHARS and len(self._tail) > 1):
            half = (len(self._tail) + 1) // 2
            self._keep_state()
            self._tail = self._tail[half:]
            self._chars = sum(len(line.text) for line in self._tail)

    def _wake_all(self) -> None:
        for watcher in self.watchers:
            watcher.wake.set()

    # ── Out ─────────────────────────────────────────────────────────────────────────────

    def state(self) -> dict[str, Any]:
        """The newest known public state, in the shape of a message without data."""
        self._keep_state()
        return self._state

    async def after(self, seq: int) -> list[Line]:
        """The events that follow, at most a page; nothing if there is none.

        Raises: Pruned, if some of them are not kept any more.
        """
        if seq >= self.end:
            return []
        if self._tail and seq + 1 >= self._tail[0].seq:
            return self._tail[seq + 1 - self._tail[0].seq :]
        if self.gone:
            return self._tail
        return await self.page(seq)

    async def page(self, seq: int) -> list[Line]:
        """The next page from the database, read once for all who ask at once. Raises: Pruned."""
        reading = self._pages.get(seq)
        if reading is None:
            reading = asyncio.create_task(reads.run(reads.events_after, self.task_id, seq))
            self._pages[seq] = reading
            reading.add_done_callback(lambda _: self._pages.pop(seq, None))
        # Shielded: one socket that leaves must not cancel what the others wait for.
        lines = await asyncio.shield(reading)
        dense = all(line.seq == wanted for wanted, line in enumerate(lines, seq + 1))
        if not dense or (not lines and self.end > seq):
            raise Pruned
        return lines

    def _keep_state(self) -> None:
        if self._tail:
            newest = json.loads(self._tail[-1].text)
            self._state = {**newest, "data": {}}


def deleted_message(state: dict[str, Any], *, seq: int) -> dict[str, Any]:
    """The message of `events.deleted`, from the last known state of a task that is gone."""
    fields = ("task_id", "attempt", "status", "progress", "stage")
    kept = {name: state[name] for name in fields if name in state}
    told: dict[str, Any] = {
        "type": EventKind.DELETED.value,
        "message": "deleted",
        "timestamp": instant(timezone.now()),
        "data": {},
    }
    return {**kept, **told, "seq": seq}

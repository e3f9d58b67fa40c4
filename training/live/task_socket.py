"""One task's events to one client: a snapshot or what follows a number, then all that comes."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from training.states import EventKind

from . import reads
from .admission import Admission, Snapshot, snapshot_of
from .authentication import Credential
from .hub import Hub
from .outlet import Outlet
from .reads import Line
from .sockets import Socket
from .watch import News, Pruned, Watch


class TaskSocket(Socket):
    """One task's events to one client, by number: `_last` is the newest that was sent."""

    _sync_hint = '{"type": "sync", "after": <seq>}'

    def __init__(
        self,
        credential: Credential,
        admission: Admission,
        outlet: Outlet,
        snapshot: Snapshot,
        after: int | None,
    ) -> None:
        super().__init__(credential, admission, outlet)
        self._first = snapshot
        self.task_id = snapshot.message["task_id"]
        self._last = -1 if after is None else after
        self._back_to: int | None = None
        self._is_idle = False
        self._watch: Watch | None = None

    def _sync(self, word: dict[str, Any]) -> bool:
        after = word.get("after")
        if isinstance(after, bool) or not isinstance(after, int) or not 0 <= after < 2**31:
            return False
        self._back_to = after
        return True

    def _state(self) -> dict[str, Any]:
        return self._watch.state() if self._watch else self._first.message

    async def write(self, here: Hub) -> int:
        """Send every event in order; returns the close code. Raises: TooSlow, DatabaseError."""
        watch = await self._enter(here)
        while self._code is None:
            self.wake.clear()
            await self._answer()
            await self._go_back(watch)
            if not await self._send_next(watch) and not self.wake.is_set():
                self.outlet.was_full = False
                self._is_idle = True
                await self.wake.wait()
                self._is_idle = False
        return self._code

    async def _enter(self, here: Hub) -> Watch:
        first = self._first
        watch = self._watch = await here.watch(self, first.message)
        if self._last < 0 or self._last > first.message["seq"]:
            # No number was given, or one that this task does not have: begin anew.
            await self._send_snapshot(first)
        # Long, and not needed any more.
        del self._first
        return watch

    def tell(self, news: News) -> None:
        """Send the news at once if that is all there is to send, else wake the writer.

        Half of the work for an event and socket would be the writer's turn.
        """
        ready = self._is_idle and not self.wake.is_set() and news.first == self._last + 1
        if ready and self.outlet.send_now(news.frames):
            self._last = news.last
        else:
            self.wake.set()

    async def _send_next(self, watch: Watch) -> bool:
        """Send the next events; False if there were none."""
        try:
            lines = await watch.after(self._last)
        except Pruned:
            await self._start_over(watch)
            return True
        await self._send(lines)
        return bool(lines)

    async def _go_back(self, watch: Watch) -> None:
        """What a `sync` asks for; looks into the database even if nothing new is known."""
        after, self._back_to = self._back_to, None
        if after is None or watch.gone:
            return
        try:
            lines = await watch.page(after)
        except Pruned:
            await self._start_over(watch)
            return
        if not lines and after > watch.end:
            await self._start_over(watch)
            return
        self._last = after
        await self._send(lines)

    async def _start_over(self, watch: Watch) -> None:
        """Send a snapshot for events that are not kept any more; then go on after it."""
        snapshot = await reads.run(snapshot_of, watch.task_id)
        if snapshot is None:
            watch.vanished()
            self._last = watch.end - 1
            return
        await self._send_snapshot(snapshot)

    async def _send_snapshot(self, snapshot: Snapshot) -> None:
        await self.outlet.send(snapshot.text)
        self._last = snapshot.message["seq"]

    async def _send(self, lines: list[Line]) -> None:
        for line in _joined(lines) if self.outlet.was_full else lines:
            if self._code is not None:
                return
            await self.outlet.send(line.text)
            self._last = line.seq


def _joined(lines: list[Line]) -> Iterator[Line]:
    """The lines, of each run of progress only the last, which names the first in `from_seq`."""
    first: int | None = None
    for line, following in zip_longest(lines, lines[1:]):
        is_progress = line.kind == EventKind.PROGRESS
        if is_progress and following is not None and following.kind == EventKind.PROGRESS:
            first = line.seq if first is None else first
            continue
        if is_progress and first is not None:
            yield line._replace(text=f'{line.text[:-1]},"from_seq":{first}}}')
        else:
            yield line
        first = None

"""The two sockets: one task's events, and the list of tasks.

Bare ASGI applications: Channels' consumer classes hop to a thread for each event and socket, and
keep a channel per socket. Here a socket is a reader of the client's few words and a writer that
is woken when there is news. Slow clients: see `outlet.py` for what is and isn't noticed.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from django.db import Error as DatabaseError

from training.states import EventKind

from . import closing, hub, listing, reads
from .authentication import Credential, Receive, Scope, Send
from .outlet import Outlet, TooSlow
from .publish import to_text
from .reads import Admission, Line, State
from .watch import Pruned, Watch

log = logging.getLogger(__name__)

FRAME_MAX_CHARS = 4_096
"""A longer word of a client is not read."""

ANSWERS_PER_S = 10
"""A client that talks faster is answered so often, and otherwise ignored."""

_GOODBYE_S = 0.05


async def task_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """`/ws/train/{task_id}`: a snapshot or what follows `after`, then every event."""
    task_id = scope["url_route"]["kwargs"]["task_id"]
    admission = await _admit(scope, receive, send, task_id)
    if admission is None:
        return
    if admission.snapshot is None:
        await closing.close(send, closing.NOT_FOUND)
        return
    after = _number(_query(scope, "after"))
    await _serve(TaskSocket(scope["credential"], admission, Outlet(send), after), receive, send)


async def list_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """`/ws/tasks`: the newest state of each visible task, then each change."""
    admission = await _admit(scope, receive, send, None)
    if admission is None:
        return
    since = listing.event_id_of(_query(scope, "cursor"))
    await _serve(ListSocket(scope["credential"], admission, Outlet(send), since), receive, send)


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """There is no such socket."""
    await closing.refuse(receive, send, closing.NOT_FOUND)


async def _admit(
    scope: Scope, receive: Receive, send: Send, task_id: str | None
) -> Admission | None:
    """Who comes in; None if refused, and told so.

    Accepts first: in a storm the database is asked for longer than a handshake may take.
    """
    await closing.accept(receive, send)
    try:
        admission = await reads.run(reads.admit, scope["credential"], task_id)
    except DatabaseError as error:
        log.warning("a socket could not be let in: %r", error)
        await closing.close(send, closing.TRY_AGAIN)
        return None
    if admission is None:
        await closing.close(send, closing.NOT_SIGNED_IN)
    return admission


async def _serve(socket: "Socket", receive: Receive, send: Send) -> None:
    here = hub.current()
    if not here.enter(socket):
        await closing.close(send, closing.TOO_MANY)
        return
    writer: asyncio.Task[None] | None = None
    try:
        writer = asyncio.create_task(_write(socket, here))
        await _read(socket, receive)
    except asyncio.CancelledError:
        await socket.outlet.close(closing.GOING_AWAY)
        # daphne ends once we do: the frame needs a moment to leave.
        await asyncio.sleep(_GOODBYE_S)
        raise
    finally:
        here.leave(socket)
        if writer is not None:
            writer.cancel()


async def _write(socket: "Socket", here: hub.Hub) -> None:
    """Send until the socket is closed, by either side."""
    code = closing.BROKEN
    try:
        code = await socket.write(here)
    except TooSlow:
        code = closing.TRY_AGAIN
    except DatabaseError as error:
        log.warning("a socket has to come back: %r", error)
        code = closing.TRY_AGAIN
    except Exception:
        log.exception("a socket broke")
    await socket.outlet.close(code)


async def _read(socket: "Socket", receive: Receive) -> None:
    window, answered = 0.0, 0
    while (frame := await receive())["type"] == "websocket.receive":
        now = time.monotonic()
        if now - window >= 1.0:
            window, answered = now, 0
        answered += 1
        if answered <= ANSWERS_PER_S:
            socket.ask(_word_of(frame))


def _word_of(frame: dict[str, Any]) -> dict[str, Any]:
    """What the client says; an empty object if it is nothing that a client may say."""
    text = frame.get("text")
    if not text or len(text) > FRAME_MAX_CHARS:
        return {}
    # RecursionError: thousands of nested brackets fit into a frame.
    with contextlib.suppress(ValueError, RecursionError):
        word = json.loads(text)
        return word if isinstance(word, dict) else {}
    return {}


def _query(scope: Scope, name: str) -> str | None:
    values = parse_qs(scope.get("query_string", b"").decode("latin1")).get(name)
    return values[-1] if values else None


def _number(text: str | None) -> int | None:
    """A number of an event; None for what is none: the client then gets a snapshot."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else None


class Socket:
    """What the two kinds have in common: who listens, the way out, and the words of a client."""

    task_id = ""

    def __init__(self, credential: Credential, admission: Admission, outlet: Outlet) -> None:
        self.credential = credential
        self.user_id = admission.user_id
        self.is_staff = admission.is_staff
        self.outlet = outlet
        self.wake = asyncio.Event()
        self._code: int | None = None
        self._answers: list[dict[str, Any]] = []

    def admit(self, admission: Admission) -> None:
        """Take note of who the user is now."""
        self.is_staff = admission.is_staff

    def stop(self, code: int) -> None:
        """Close the socket soon."""
        self._code = code
        self.wake.set()

    def ask(self, word: dict[str, Any]) -> None:
        """Answer a client's word: `ping`, `sync`, or what can't be understood."""
        if word.get("type") == "ping":
            self._answers.append({"type": "pong"})
        elif not (word.get("type") == "sync" and self._sync(word)):
            hint = 'send {"type": "ping"} or ' + self._sync_hint
            self._answers.append({"type": "error", "message": f"not understood: {hint}"})
        self.wake.set()

    _sync_hint = ""

    def _sync(self, word: dict[str, Any]) -> bool:
        """Go back to where the client says; False if it says no such place."""
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        """The fields that every message carries, as an answer carries them."""
        raise NotImplementedError

    async def write(self, here: hub.Hub) -> int:
        """Send what there is until told to close; returns the close code."""
        raise NotImplementedError

    async def _answer(self) -> None:
        while self._answers:
            await self.outlet.send(to_text({**self._state(), **self._answers.pop(0)}))


class TaskSocket(Socket):
    """One task's events to one client, by number: `_last` is the newest that was sent."""

    _sync_hint = '{"type": "sync", "after": <seq>}'

    def __init__(
        self, credential: Credential, admission: Admission, outlet: Outlet, after: int | None
    ) -> None:
        super().__init__(credential, admission, outlet)
        self._first: dict[str, Any] = admission.snapshot or {}
        self.task_id = self._first["task_id"]
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
        return self._watch.state() if self._watch else {**self._first, "data": {}}

    async def write(self, here: hub.Hub) -> int:
        """Send every event in order; returns the close code. Raises: TooSlow, DatabaseError."""
        watch = self._watch = await here.watch(self, self._first)
        newest = self._first["seq"]
        if self._last < 0 or self._last > newest:
            # No number was given, or one that this task does not have: begin anew.
            await self._send_snapshot(self._first)
        self._first = {key: value for key, value in self._first.items() if key != "data"}
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

    def tell(self, line: Line) -> None:
        """Send the newest line at once if that is all there is to send, else wake the writer.

        Half of the work for an event and socket would be the writer's turn.
        """
        ready = self._is_idle and not self.wake.is_set() and line.seq == self._last + 1
        if ready and self.outlet.send_now(line.text):
            self._last = line.seq
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
        snapshot = await reads.run(reads.snapshot_of, watch.task_id)
        if snapshot is None:
            watch.vanished()
            self._last = watch.end - 1
            return
        await self._send_snapshot(snapshot)

    async def _send_snapshot(self, snapshot: dict[str, Any]) -> None:
        await self.outlet.send(to_text(snapshot))
        self._last = snapshot["seq"]

    async def _send(self, lines: list[Line]) -> None:
        for line in _joined(lines) if self.outlet.was_full else lines:
            if self._code is not None:
                return
            await self.outlet.send(line.text)
            self._last = line.seq


def _joined(lines: list[Line]) -> Iterator[Line]:
    """The lines, of each run of progress only the last, which names the first in `from_seq`."""
    first: int | None = None
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        is_progress = line.kind == EventKind.PROGRESS
        if is_progress and following is not None and following.kind == EventKind.PROGRESS:
            first = line.seq if first is None else first
            continue
        if is_progress and first is not None:
            yield line._replace(text=f'{line.text[:-1]},"from_seq":{first}}}')
        else:
            yield line
        first = None


class ListSocket(Socket):
    """The newest states to one client: what is not sent yet is kept by task, newest only."""

    _sync_hint = '{"type": "sync", "cursor": "<cursor>"}'

    def __init__(
        self, credential: Credential, admission: Admission, outlet: Outlet, since: int | None
    ) -> None:
        super().__init__(credential, admission, outlet)
        self._since = since
        self._pending: dict[str, tuple[int, str]] = {}
        self._must_load = True
        self._cursor = ""

    def _sync(self, word: dict[str, Any]) -> bool:
        cursor = word.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            return False
        self._since, self._must_load = listing.event_id_of(cursor), True
        return True

    def _state(self) -> dict[str, Any]:
        seen = ("task_id", "status", "progress", "message", "timestamp", "seq", "stage")
        return {**dict.fromkeys(seen), "data": {}, "cursor": self._cursor}

    def offer(self, state: State, text: str) -> None:
        """Take the state if the user may see it; a newer one of the same task takes its place."""
        if not (self.is_staff or state.owner_id == self.user_id):
            return
        waiting = self._pending.get(state.task_id)
        if waiting is None or waiting[0] < state.seq:
            self._pending[state.task_id] = (state.seq, text)
            self.wake.set()

    async def write(self, here: hub.Hub) -> int:
        """Send every state; returns the close code. Raises: TooSlow, DatabaseError."""
        # Joined before the first reading, so that no change falls between the two.
        here.listing.join(self)
        await here.watch_list(self)
        while self._code is None:
            self.wake.clear()
            self._cursor = here.listing.cursor()
            await self._answer()
            if self._must_load:
                self._must_load = False
                await self._load(here.listing)
            while self._pending and self._code is None:
                task_id = next(iter(self._pending))
                await self.outlet.send(self._pending.pop(task_id)[1])
            if not self.wake.is_set():
                await self.wake.wait()
        return self._code

    async def _load(self, shown: listing.Listing) -> None:
        """Read what the client is to be told first."""
        cursor = shown.cursor()
        admission = Admission(self.user_id, self.is_staff)
        states = await reads.run(reads.states_for, admission, self._since)
        shown.know(states)
        for state in reversed(states):
            self.offer(state, to_text({**state.message, "cursor": cursor}))

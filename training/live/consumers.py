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
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from django.db import Error as DatabaseError

from . import closing, hub, listing
from .admission import Admission
from .authentication import Receive, Scope, Send
from .list_socket import ListSocket
from .outlet import Outlet, TooSlow
from .sockets import Socket
from .task_socket import TaskSocket

log = logging.getLogger(__name__)

FRAME_MAX_CHARS = 4_096
"""A longer word of a client is not read."""

ANSWERS_PER_S = 10
"""A client that talks faster is answered so often, and otherwise ignored."""

_GOODBYE_S = 0.05


def task_socket(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """`/ws/train/{task_id}`: a snapshot or what follows `after`, then every event."""
    task_id = scope["url_route"]["kwargs"]["task_id"]
    after = _number(_query(scope, "after"))

    async def make(admission: Admission) -> TaskSocket | None:
        snapshot = await hub.current().door.show(task_id, admission, at_least=after or 0)
        if snapshot is None:
            return None
        return TaskSocket(scope["credential"], admission, Outlet(send), snapshot, after)

    return _let_in(scope, receive, send, make)


def list_socket(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """`/ws/tasks`: the newest state of each visible task, then each change."""
    since = listing.event_id_of(_query(scope, "cursor"))

    async def make(admission: Admission) -> ListSocket:
        return ListSocket(scope["credential"], admission, Outlet(send), since)

    return _let_in(scope, receive, send, make)


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """There is no such socket."""
    await closing.refuse(receive, send, closing.NOT_FOUND)


async def _let_in(
    scope: Scope,
    receive: Receive,
    send: Send,
    make: Callable[[Admission], Awaitable[Socket | None]],
) -> None:
    """Serve the socket that `make` gives for who has come; or refuse, and say why.

    Accepts first: in a storm the database is asked for longer than a handshake may take.
    """
    await closing.accept(receive, send)
    try:
        admission = await hub.current().door.admit(scope["credential"])
        socket = await make(admission) if admission else None
    except DatabaseError as error:
        log.warning("a socket could not be let in: %r", error)
        await closing.close(send, closing.TRY_AGAIN)
        return
    if socket is not None:
        await _serve(socket, receive, send)
    else:
        await closing.close(send, closing.NOT_FOUND if admission else closing.NOT_SIGNED_IN)


async def _serve(socket: Socket, receive: Receive, send: Send) -> None:
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


async def _write(socket: Socket, here: hub.Hub) -> None:
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


async def _read(socket: Socket, receive: Receive) -> None:
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

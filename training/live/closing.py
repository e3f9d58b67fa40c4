"""Why a socket is closed, as its client sees it."""

from collections.abc import Awaitable, Callable
from typing import Any

from . import daphne_socket

NOT_SIGNED_IN = 4401
FOREIGN_ORIGIN = 4403
NOT_FOUND = 4404
TOO_MANY = 4429
TRY_AGAIN = 1013
"""Too slow to read, or the database is away: come back, with `?after` or the cursor."""
GOING_AWAY = 1001
BROKEN = 1011

_FREE_CODES = 3_000


async def refuse(
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
    code: int,
) -> None:
    """Accept and close: a socket that is refused before shows its client no code, only HTTP 403."""
    await accept(receive, send)
    await close(send, code)


async def accept(
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Open the socket."""
    await receive()
    await send({"type": "websocket.accept"})


async def close(send: Callable[[dict[str, Any]], Awaitable[None]], code: int) -> None:
    """Close with the code."""
    protocol = daphne_socket.protocol_of(send)
    if protocol is not None and code < _FREE_CODES:
        daphne_socket.close(protocol, code)
    else:
        await send({"type": "websocket.close", "code": code})

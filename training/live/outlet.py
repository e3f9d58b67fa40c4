"""The way out to one client: its ASGI `send`, bounded.

daphne's `send` never waits: it appends to the transport's buffer in memory. So before each
message the size of that buffer is read, and the kernel's own, which nobody sees, is kept small; a
server that lets `send` wait, such as uvicorn, is watched by time instead.
"""

import asyncio
import time
from typing import Any

from . import closing, daphne_socket
from .authentication import Send

UNSENT_MAX_BYTES = 49_152
"""Bytes that may wait in the server's memory for one client."""

KERNEL_BYTES = 131_072
"""Asked of the kernel for one client; Linux takes twice as much, with its own bookkeeping."""

STUCK_S = 20.0
"""A client that makes no room for so long is too slow to read."""

_POLL_S, _POLL_MAX_S = 0.05, 1.0
"""How often it is looked whether there is room: ever less often while the client takes nothing,
as a thousand who are stuck would else keep the process busy."""


class TooSlow(Exception):
    """The client does not read what it asked for."""


class Outlet:
    """Sends texts to one client and closes it once.

    was_full: whether the client was slow of late, so that what waits for it may be joined.
    """

    __slots__ = ("_closed", "_send", "_protocol", "was_full")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._protocol = daphne_socket.protocol_of(send)
        if self._protocol is not None:
            daphne_socket.bound_kernel(self._protocol, KERNEL_BYTES)
            daphne_socket.forget_request(self._protocol)
        self._closed = False
        self.was_full = False

    async def send(self, text: str) -> None:
        """Send when there is room. Raises: TooSlow."""
        message = {"type": "websocket.send", "text": text}
        if self._protocol is None:
            await self._send_watched(message)
            return
        if daphne_socket.unsent_bytes(self._protocol) > UNSENT_MAX_BYTES:
            await self._room()
        await self._send(message)

    def send_now(self, frames: bytes) -> bool:
        """Write frames that are built already; False if that can't be done here and now."""
        protocol = self._protocol
        if protocol is None or self._closed or self.was_full:
            return False
        return daphne_socket.write(protocol, frames, limit_bytes=UNSENT_MAX_BYTES)

    async def close(self, code: int) -> None:
        """Close the socket, once; nothing is sent after it."""
        if not self._closed:
            self._closed = True
            await closing.close(self._send, code)

    async def _room(self) -> None:
        self.was_full = True
        least, deadline = daphne_socket.unsent_bytes(self._protocol), time.monotonic() + STUCK_S
        pause_s = _POLL_S
        while (unsent := daphne_socket.unsent_bytes(self._protocol)) > UNSENT_MAX_BYTES:
            if unsent < least:
                least, deadline, pause_s = unsent, time.monotonic() + STUCK_S, _POLL_S
            if time.monotonic() > deadline:
                raise TooSlow
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_MAX_S)

    async def _send_watched(self, message: dict[str, Any]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(STUCK_S):
                await self._send(message)
        except TimeoutError:
            raise TooSlow from None
        if time.monotonic() - began > _POLL_S:
            self.was_full = True

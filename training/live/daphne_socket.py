"""What ASGI can't do under daphne: write a frame that was built once, tell what is unsent, close
with codes below 3000, say goodbye.

Private matters of daphne, autobahn and Twisted, hence only here, and only with versions and
shapes that were tried. Under another server, another version, TLS or compression all of this is
absent, and `send` is used as it is.
"""

import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib import metadata
from typing import Any

log = logging.getLogger(__name__)

TRIED = {"daphne": "4.2.", "autobahn": "26.", "twisted": "26."}
"""Starts of the versions under which the tests of this file were seen to pass."""

_BUFFER = ("dataBuffer", "offset", "_tempDataLen", "socket", "connected", "disconnecting")
_PROTOCOL = ("sendCloseFrame", "state", "send_queue", "_perMessageCompress")
_OPEN = 3  # autobahn's WebSocketProtocol.STATE_OPEN
_TEXT = 0x81  # a whole message, of text


@cache
def is_known() -> bool:
    """Whether the installed versions are ones that were tried; says so once if not."""
    other = {name: metadata.version(name) for name, tried in TRIED.items() if not _is_tried(name)}
    if other:
        log.warning("sockets are served the plain, slower way: not tried with %s", other)
    return not other


def _is_tried(name: str) -> bool:
    return metadata.version(name).startswith(TRIED[name])


def protocol_of(send: Any) -> Any:
    """The WebSocket protocol behind daphne's `send`; None under other servers."""
    if not isinstance(send, partial) or not send.args or not is_known():
        return None
    protocol = send.args[0]
    transport = getattr(protocol, "transport", None)
    known = all(hasattr(transport, name) for name in _BUFFER)
    return protocol if known and all(hasattr(protocol, name) for name in _PROTOCOL) else None


def unsent_bytes(protocol: Any) -> int:
    """What waits in this process's memory for the client."""
    transport = protocol.transport
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def bound_kernel(protocol: Any, size: int) -> None:
    """Let the kernel hold so many bytes for the client, and not grow it to megabytes."""
    with contextlib.suppress(OSError):
        protocol.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def forget_request(protocol: Any) -> None:
    """Let go of the request that opened this socket: 6 KiB that nobody asks for any more.

    What has spoken HTTP on the connection is still registered as the one to pause when the client
    is slow, and so is kept; the headers are kept twice.
    """
    protocol.transport.unregisterProducer()
    for headers in ("clean_headers", "http_headers"):
        getattr(protocol, headers, []).clear()


def frames(texts: Iterable[str]) -> bytes:
    """The texts as WebSocket frames of a server, one behind the other (RFC 6455, 5.2)."""
    return b"".join(_frame(text.encode()) for text in texts)


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    if size <= 125:
        return bytes((_TEXT, size)) + payload
    if size <= 0xFFFF:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + payload


def write(protocol: Any, built: bytes, *, limit_bytes: int) -> bool:
    """Write whole frames past autobahn and, if nothing waits, past Twisted's turn as well.

    False if that can't be done here and now: the socket is not open, TLS or compression are
    between, or more than `limit_bytes` would wait.
    """
    transport = protocol.transport
    if (
        protocol.state != _OPEN
        or protocol.send_queue
        or protocol._perMessageCompress is not None
        or not transport.connected
        or transport.disconnecting
        or getattr(transport, "TLS", False)
    ):
        return False
    if transport.dataBuffer or transport._tempDataLen:
        if unsent_bytes(protocol) + len(built) > limit_bytes:
            return False
        transport.write(built)
        return True
    try:
        sent = transport.socket.send(built)
    except OSError:
        # Full, or gone: Twisted finds out which.
        sent = 0
    if sent < len(built):
        transport.write(built[sent:])
    return True


def close(protocol: Any, code: int) -> None:
    """Close with any code; autobahn's public way allows 1000 and from 3000 on only."""
    if protocol.state == _OPEN:
        protocol.sendCloseFrame(code=code)


def before_shutdown(say_goodbye: Callable[[], None], *, wait_s: float) -> None:
    """Call `say_goodbye` when daphne is told to end, and let it end so much later.

    daphne cancels its applications then, but stumbles (4.2) if a socket was opened in the second
    before: it cancels none.
    """
    # Twisted's name is there under every server, as `daphne` is an installed app; but not running.
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or not getattr(reactor, "running", False):
        return
    from twisted.internet.task import deferLater

    def trigger() -> Any:
        say_goodbye()
        return deferLater(reactor, wait_s)

    reactor.addSystemEventTrigger("before", "shutdown", trigger)

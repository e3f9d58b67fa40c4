"""What ASGI can't do under daphne: tell what is unsent, close with codes below 3000, say goodbye.

Private matters of daphne 4, autobahn and Twisted, hence only here, and only after a look whether
they are as expected. Under another server all of this is absent, and `send` is used as it is.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

_BUFFER = ("dataBuffer", "offset", "_tempDataLen")
_OPEN = 3  # autobahn's WebSocketProtocol.STATE_OPEN


def protocol_of(send: Any) -> Any:
    """The WebSocket protocol behind daphne's `send`; None under other servers."""
    if not isinstance(send, partial) or not send.args:
        return None
    protocol = send.args[0]
    transport = getattr(protocol, "transport", None)
    known = all(hasattr(transport, name) for name in _BUFFER)
    return protocol if known and hasattr(protocol, "sendCloseFrame") else None


def unsent_bytes(protocol: Any) -> int:
    """What waits in this process's memory for the client."""
    transport = protocol.transport
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def send(protocol: Any, text: str) -> bool:
    """Send at once, without a coroutine and a task's turn; False if the socket is not open."""
    if protocol.state != _OPEN:
        return False
    protocol.sendMessage(text.encode())
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

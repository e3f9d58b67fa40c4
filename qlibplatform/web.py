"""The web process: daphne, which answers what it has begun before it ends, and spreads its pings.

    python -m qlibplatform.web --fd 3 qlibplatform.asgi:application

daphne alone cuts off the requests that it is answering when it is told to stop. Where systemd holds
the socket, new connections wait there for the next process, so a restart fails no request.
"""

import gc
import logging
import math
import signal
import time
from typing import Any

from daphne.cli import CommandLineInterface
from daphne.http_protocol import WebRequest
from daphne.server import Server
from twisted.internet import reactor as _reactor

log = logging.getLogger(__name__)
reactor: Any = _reactor

LATECOMERS_S = 0.3
"""A connection that was just accepted has not told its request yet."""

ANSWER_WITHIN_S = 10.0
"""Below the unit's TimeoutStopSec: sockets are said goodbye to after this."""

LOOK_EVERY_S = 0.05

WHOLE_LOOKS = 100
"""Python's 10, times ten: among ten thousand sockets a whole look for garbage takes half a second,
in which nobody's message goes out; and while they connect it came every few hundred of them."""

CHECK_ALL_S, CHECKS = 2.0, 40
"""Every connection is looked at within this time, in so many parts."""


def _look_seldom_for_garbage() -> None:
    # What is loaded stays: looking for garbage then holds no message up for its sake.
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, WHOLE_LOOKS)


class GracefulServer(Server):  # type: ignore[misc]
    """Told to end: takes no new connection, answers what it has, then ends. SIGINT: at once."""

    def run(self) -> None:
        """Until told to end; after daphne's own handlers of signals are in place."""
        # A proxy logs requests; daphne's lines are no JSON, and hold what stood in the address.
        self.action_logger = None
        self._ports: list[Any] = []
        self._ends_at: float | None = None
        self._unchecked: list[Any] = []
        self._part = 1
        reactor.addSystemEventTrigger("after", "startup", self._hear_signals)
        _look_seldom_for_garbage()
        super().run()

    def listen_success(self, port: Any) -> None:
        """A port is open."""
        self._ports.append(port)
        super().listen_success(port)

    def timeout_checker(self) -> None:
        """Ping who is silent, as daphne does, but a part of the connections at a time.

        Of ten thousand, a thousand are due at once, and nobody's message goes out meanwhile.
        """
        if not self._unchecked:
            self._unchecked = list(self.connections)
            self._part = max(1, math.ceil(len(self._unchecked) / CHECKS))
        due, self._unchecked = self._unchecked[: self._part], self._unchecked[self._part :]
        for protocol in due:
            # It may have gone since the list was made.
            if protocol in self.connections:
                protocol.check_timeouts()
        reactor.callLater(CHECK_ALL_S / CHECKS, self.timeout_checker)

    def _hear_signals(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(self._end))

    def _end(self) -> None:
        if self._ends_at is not None:
            return
        self._ends_at = time.monotonic() + ANSWER_WITHIN_S
        for port in self._ports:
            port.stopListening()
        reactor.callLater(LATECOMERS_S, self._end_when_answered)

    def _end_when_answered(self) -> None:
        asked = sum(
            isinstance(protocol, WebRequest) and "disconnected" not in details
            for protocol, details in self.connections.items()
        )
        if asked and self._ends_at is not None and time.monotonic() < self._ends_at:
            reactor.callLater(LOOK_EVERY_S, self._end_when_answered)
            return
        if asked:
            log.warning("%s requests were not answered within %s s", asked, ANSWER_WITHIN_S)
        self.stop()


if __name__ == "__main__":
    CommandLineInterface.server_class = GracefulServer
    CommandLineInterface.entrypoint()

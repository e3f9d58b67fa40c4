"""The next work-horse, forked in advance, so that a ring is answered by a warm process.

A fresh fork copies each page that it touches and opens its own connections: 20 ms and more until
it has claimed a task. A spare has done both before it is needed.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from training.engine import walls

Told = dict[str, str]

MOST_BYTES = 65_536
NO_SIGNAL = 0
STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stops_held() -> Iterator[None]:
    """Around a fork: no signal to stop is delivered until the fork is in hand.

    What a handler raises in the middle of a fork, Python prints and forgets. The fork itself lets
    them in once it has handlers of its own.
    """
    try:
        # Within, as a signal that has just come has its handler run by this very call.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        yield
    finally:
        let_stops_in()


def let_stops_in() -> None:
    """Deliver signals to stop from now on, and one that has waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


@dataclass(frozen=True)
class Spare:
    """A fork that waits. line: the way to it; once its end is closed the spare leaves."""

    pid: int
    line: int

    def tell(self, told: Told) -> bool:
        """Set it to work; False if it has died."""
        try:
            os.write(self.line, json.dumps(told).encode())
        except BrokenPipeError:
            os.waitpid(self.pid, 0)
            return False
        finally:
            os.close(self.line)
        return True

    def dismiss(self) -> None:
        """End it; it has done nothing yet."""
        os.close(self.line)
        # It may be waiting for a database that hangs, and would not see the end of its line.
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def fork(
    warm_up: Callable[[], None], work: Callable[[Told], None], stop: Callable[..., None]
) -> Spare:
    """A spare that has warmed up soon, and will do `work` with what it is told.

    stop: what SIGTERM does to it; from the first moment on, so that none is lost that is sent
    while it begins to work. Raises: OSError.
    """
    mine, line = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(mine)
        os.close(line)
        raise
    if pid == 0:
        os.close(line)
        _serve(mine, warm_up, work, stop, parent)
    os.close(mine)
    return Spare(pid, line)


def _serve(
    line: int,
    warm_up: Callable[[], None],
    work: Callable[[Told], None],
    stop: Callable[..., None],
    parent: int,
) -> NoReturn:
    """Whatever happens, this fork never returns into its parent's code."""
    with suppress(BaseException):
        # Ctrl-C is the parent's to act on; the end of the line tells the spare.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, stop)
        let_stops_in()
        # One that waits for a database that hangs would hold its worker's lock.
        walls.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        warm_up()
        if told := os.read(line, MOST_BYTES):
            # A horse at work goes on without its worker.
            walls.die_with_parent(NO_SIGNAL)
            os.close(line)
            # As RQ's horses have it: signals for the worker's group are not the horse's.
            os.setpgrp()
            work(json.loads(told))
    os._exit(1)

"""What passes between leader, host and training: JSON lines over stream sockets, and the life line.

Standard library only. A message is one JSON object with a `type`, on one line:

    training -> leader   hello, stage, progress, metrics, columns, done, failed
    leader -> training   first the job (no type), then orders {"op": "finish"} or {"op": "abort"},
                         and for each claim of columns one {"answer": {...}}
    leader -> host       one {"type": "start", ...} with three descriptors: control, log, life line
    host -> leader       started (with a pidfd), stopped, continued, exit

Channels are not ordered against each other: `hello` may be read before `started`.
"""

import fcntl
import json
import math
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

MAX_LINE_BYTES = 4 * 2**20
READ_BYTES = 2**16
MAX_DESCRIPTORS = 8


class Malformed(ValueError):
    """The peer sent something that is not a line of JSON, or a line over MAX_LINE_BYTES."""


def clean(value: Any) -> Any:
    """The value as strict JSON can hold it; later readers refuse NaN, NUL and lone surrogates.

    Non-finite floats become None, numpy scalars plain numbers, what is unknown its text.
    """
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    # A numpy scalar; an array of several numbers has `ndim` too and goes out as text.
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return clean(value.item())
    return clean(str(value))


def is_readable(descriptor: int, timeout_s: float = 0) -> bool:
    """Whether something is there to be read, or of a pidfd: whether the process has ended."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


class Channel:
    """One end of a stream socket that carries messages; descriptors ride on the first byte of one.

    `descriptors` holds what was received and not taken yet: whoever takes one must close it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._rest = b""
        self._received: list[Message] = []
        self.descriptors: list[int] = []
        self.is_closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Sends all of it, or raises OSError; blocks as long as the socket's own timeout allows."""
        line = json.dumps(clean(message), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        sent = socket.send_fds(self._socket, [line], list(descriptors)) if descriptors else 0
        self._socket.sendall(line[sent:])

    def receive(self) -> list[Message]:
        """One read, and every message that is complete now; blocks if there is nothing to read.

        At the end of the stream `is_closed` becomes true. Raises Malformed.
        """
        if self._received:
            received, self._received = self._received, []
            return received
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, READ_BYTES, MAX_DESCRIPTORS)
        except ConnectionError:
            # A peer that was killed with unread data resets the connection: an end like any other.
            data, descriptors = b"", []
        self.descriptors += descriptors
        self.is_closed = self.is_closed or not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise Malformed(f"a message is longer than {MAX_LINE_BYTES} bytes")
        return [_parse(line) for line in lines]

    def is_ready(self, timeout_s: float = 0) -> bool:
        """Whether `receive` would not block. No select(2): a descriptor may be above 1023."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(self._received or poller.poll(timeout_s * 1000))

    def receive_one(self, timeout_s: float) -> Message | None:
        """The first message, or None at the end of stream or time; those behind it stay."""
        deadline = time.monotonic() + timeout_s
        while not self.is_closed and self.is_ready(max(0.0, deadline - time.monotonic())):
            if messages := self.receive():
                self._received = messages[1:]
                return messages[0]
        return None

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()
        self._socket.close()
        self.is_closed = True


def _parse(line: bytes) -> Message:
    try:
        message = json.loads(line)
    # RecursionError: a line of a thousand brackets must not take its reader down.
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not a line of JSON: {error}") from None
    if not isinstance(message, dict):
        raise Malformed("a message must be a JSON object")
    return message


def arm_life_line(pipe: int, group: int) -> None:
    """Has the kernel SIGKILL the whole process group as soon as the last writer of `pipe` is gone.

    No thread and no interpreter lock has part in it, so it also works in stuck native code, in
    stopped processes, and for the group's other members. Nothing may be written to such a pipe.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, -group)
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(pipe, 0)
    if poller.poll(0):
        # The writer died before the line was armed: the kernel will not tell us again.
        os.killpg(group, signal.SIGKILL)

"""The leader's handle on its training: has the host start it, hears it, ends it.

Standard library only: no Django, no Qlib. It lives in the worker's fork that leads one task; the
host itself is the worker's, see `keeper`.
"""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from training.engine.protocol import Channel, Malformed, Message, is_readable
from training.engine.verdict import Limits

SEND_TIMEOUT_S = 5.0
# How often who waits for the host looks whether the training is still wanted.
WANTED_EVERY_S = 0.1
# How long the host may take to sweep and report a training whose death the leader sees itself.
EXIT_REPORT_TIMEOUT_S = 10.0


class HostLost(Exception):
    """The engine host died, or is not there."""


class HostBusy(Exception):
    """The engine host did not start the training in time: another one runs, or it still imports."""


class Training:
    """One running training as its leader holds it; made by `start`, and closed by its leader."""

    def __init__(
        self,
        *,
        pid: int,
        pidfd: int,
        life_line: int,
        host: Channel,
        control: Channel,
        memory_bytes: int,
    ) -> None:
        self.pid = pid
        self.peak_memory_bytes = 0
        self.memory_limit_bytes = memory_bytes
        self.ended: Message | None = None
        self.host_lost = False
        self._pidfd = pidfd
        self._life_line = life_line
        self._host = host
        self._control = control
        self._dead_since: float | None = None
        # Orders and answers come from two threads of the leader; each line must go out whole.
        self._sending = threading.Lock()

    @classmethod
    def start(
        cls,
        *,
        socket_path: Path,
        host_pidfd: int | None,
        job: Message,
        scratch_dir: Path,
        log_path: Path,
        limits: Limits,
        start_timeout_s: float = 60,
        is_wanted: Callable[[], bool] = lambda: True,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
    ) -> Self:
        """Has the host fork a training and gives it the job; makes scratch_dir and log if absent.

        The training may read the job's dataset and `readable`, and write `scratch_dir` and
        `writable`; the log it only appends to. It dies with this process.
        Raises: HostLost; HostBusy after start_timeout_s.
        """
        scratch_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        request = {
            "type": "start",
            "scratch_dir": str(scratch_dir.resolve()),
            "readable": [*_dataset_paths(job), *(str(path) for path in readable)],
            "writable": [str(path) for path in writable],
            "limits": limits.as_rlimits(),
        }
        deadline = time.monotonic() + start_timeout_s
        host = Channel(_connect(socket_path, host_pidfd, deadline, is_wanted))
        mine, theirs = socket.socketpair()
        life_line, life_line_end = os.pipe()
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        control = Channel(mine)
        try:
            with theirs:
                host.send(request, [theirs.fileno(), log, life_line])
            pid = _await_start(host, host_pidfd, deadline, is_wanted)
        except BaseException as error:
            os.close(life_line_end)
            host.close()
            control.close()
            if isinstance(error, OSError):
                raise HostLost(f"The engine host hung up: {error}") from error
            raise
        finally:
            os.close(log)
            os.close(life_line)
        pidfd = host.descriptors.pop()
        mine.settimeout(SEND_TIMEOUT_S)
        training = cls(
            pid=pid,
            pidfd=pidfd,
            life_line=life_line_end,
            host=host,
            control=control,
            memory_bytes=limits.memory_bytes,
        )
        # Only now: the host never sees a job, and what runs it is known to be there.
        training._send(job)
        return training

    def messages(self, timeout_s: float) -> list[Message]:
        """What came from training and host, each in order; waits at most timeout_s for the first.

        [] on timeout, and always once `ended` is set or `host_lost` is true. Before either is set,
        the training's last words have been returned or are in this list.
        """
        if self._is_over():
            return []
        ready = self._poll(timeout_s)
        received = self._read(self._control) if self._control.fileno() in ready else []
        from_host = self._hear_host() if self._host.fileno() in ready else []
        self._notice_silent_host(is_dead=self._pidfd in ready)
        if self._is_over():
            # The host's word of the end may overtake the training's last words: those come first.
            received += self._drain()
        return received + from_host

    def _is_over(self) -> bool:
        return self.ended is not None or self.host_lost

    def order(self, op: str) -> None:
        """Asks for "finish" or "abort". Never raises: a training that is gone needs no order."""
        self._send({"op": op})

    def tell(self, message: Message) -> None:
        """Sends a message; from any thread. Never raises, like `order`."""
        self._send(message)

    def kill(self) -> None:
        """SIGKILL to the training and, by its life line, its group, even under a stopped host."""
        # First the line: it ends with the training that holds it, and would not reach its group.
        self._cut_life_line()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Anonymous memory of the whole group now; also raises `peak_memory_bytes`.

        Counts the pages shared with the host as the training's own (about 0.3 GB with torch).
        A look costs about a millisecond.
        """
        used = sum(_anonymous_bytes(pid) for pid in _group_members(self.pid))
        self.peak_memory_bytes = max(self.peak_memory_bytes, used)
        return used

    def group_is_empty(self) -> bool:
        """Whether no live process is left in the training's group; a zombie does not count."""
        return next(_group_members(self.pid), None) is None

    def close(self) -> None:
        """Lets go of everything; a training that still runs is killed by that. Idempotent."""
        self._cut_life_line()
        self._host.close()
        self._control.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _poll(self, timeout_s: float) -> set[int]:
        poller = select.poll()
        for channel in (self._host, self._control):
            if not channel.is_closed:
                poller.register(channel, select.POLLIN)
        if self._dead_since is None:
            poller.register(self._pidfd, select.POLLIN)
        return {descriptor for descriptor, _ in poller.poll(timeout_s * 1000)}

    def _hear_host(self) -> list[Message]:
        messages = self._read(self._host)
        for message in messages:
            if message["type"] == "exit":
                self.ended = message
        self.host_lost = self.ended is None and self._host.is_closed
        return messages

    def _notice_silent_host(self, *, is_dead: bool) -> None:
        """A training dead for long without a report means a host that hangs or is stopped."""
        now = time.monotonic()
        if is_dead and self._dead_since is None:
            self._dead_since = now
        waited_s = 0.0 if self._dead_since is None else now - self._dead_since
        if self.ended is None and waited_s > EXIT_REPORT_TIMEOUT_S:
            self.host_lost = True

    def _drain(self) -> list[Message]:
        """What the dead training's socket still holds."""
        if self.host_lost:
            self.kill()
        messages: list[Message] = []
        while not self._control.is_closed and self._control.is_ready():
            messages += self._read(self._control)
        return messages

    def _read(self, channel: Channel) -> list[Message]:
        """A training that sends nonsense is ended, with a last word made here in its place."""
        try:
            return channel.receive()
        except Malformed as error:
            self.kill()
            channel.close()
            sentence = f"The training sent something unreadable and was stopped: {error}."
            return [{"type": "failed", "code": "training_error", "error": sentence}]

    def _send(self, message: Message) -> None:
        try:
            with self._sending:
                self._control.send(message)
        except OSError:
            # Gone, or deaf for SEND_TIMEOUT_S: either shows in `messages`, or the leader kills it.
            return

    def _cut_life_line(self) -> None:
        if self._life_line >= 0:
            os.close(self._life_line)
            self._life_line = -1


def _connect(
    path: Path, host_pidfd: int | None, deadline: float, is_wanted: Callable[[], bool]
) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    # A full queue says so at once, however long one would wait.
    connection.setblocking(False)
    try:
        while not _is_taken(connection, path):
            if host_pidfd is not None and is_readable(host_pidfd):
                raise HostLost("The engine host died.")
            if not is_wanted():
                raise HostBusy("The engine host's queue was full when the training was called off.")
            if time.monotonic() > deadline:
                raise HostBusy("The engine host's queue is full.")
            time.sleep(WANTED_EVERY_S)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError):
            raise HostLost(f"There is no engine host at {path}: {error}.") from error
        raise
    connection.settimeout(SEND_TIMEOUT_S)
    return connection


def _is_taken(connection: socket.socket, path: Path) -> bool:
    try:
        connection.connect(str(path))
    except BlockingIOError:
        return False
    return True


def _await_start(
    host: Channel, host_pidfd: int | None, deadline: float, is_wanted: Callable[[], bool]
) -> int:
    """The training's pid, once the host says "started"; its pidfd is in `host.descriptors` then."""
    poller = select.poll()
    poller.register(host, select.POLLIN)
    if host_pidfd is not None:
        # The listening socket outlives the host: only its pidfd shows a death with us waiting.
        poller.register(host_pidfd, select.POLLIN)
    while (left_s := deadline - time.monotonic()) > 0:
        wait_s = min(left_s, WANTED_EVERY_S)
        ready = {descriptor for descriptor, _ in poller.poll(wait_s * 1000)}
        for message in host.receive() if host.fileno() in ready else []:
            if message["type"] == "started" and host.descriptors:
                return int(message["pid"])
        if host.is_closed or host_pidfd in ready:
            raise HostLost("The engine host died, or refused, before the training started.")
        if not is_wanted():
            raise HostBusy("The engine host had not started the training when it was called off.")
    raise HostBusy("The engine host did not start the training in time.")


def _dataset_paths(job: Message) -> list[str]:
    path: Any = job.get("dataset", {}).get("path")
    return [] if path is None else [str(path)]


def _group_members(group: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and _is_live_member(int(name), group):
            yield int(name)


def _is_live_member(pid: int, group: int) -> bool:
    try:
        # A system call for all, and a file only for members: reading every stat took 8 ms.
        if os.getpgid(pid) != group:
            return False
        with open(f"/proc/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except OSError:
        # Gone between listing and reading.
        return False
    return state not in "ZX"


def _anonymous_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

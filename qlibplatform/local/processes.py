"""The platform's processes under supervisord: started, watched and stopped.

supervisord and not honcho, which stops everything when one process dies, nor circus, which brings
ZeroMQ and Tornado: it restarts what died, rotates logs, and needs nothing but Python. What it
started would outlive its own `kill -9`; so each child runs on a lifeline.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from .prepare import CHECKOUT, CannotStart, Place
from .programs import (
    LIFELINE,
    PLATFORM_GROUP,
    Program,
    configuration,
    control_socket,
    log_of,
    programs,
    redis_program,
)

PR_SET_CHILD_SUBREAPER = 36
STOP_WITHIN_S = 15
LOOP_WITHIN_S = 120
UNREACHABLE = (OSError, HTTPException)


@dataclass(frozen=True)
class Trouble:
    """A process that dies again and again."""

    name: str
    log: Path
    last_lines: str


class Supervisor:
    """The running supervisord: a few questions and orders over its private socket."""

    def __init__(
        self, place: Place, process: subprocess.Popen[bytes], *, platform: list[Program]
    ) -> None:
        self._place = place
        self._programs = platform
        self._process = process
        self._starts: dict[str, list[tuple[int, float]]] = {}
        self._told: set[str] = set()

    def wait_until_up(self, *, deadline_s: float = 10) -> None:
        """Raises: CannotStart, if it does not answer in time."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until and self.alive:
            try:
                self._ask("getState")
            except UNREACHABLE:
                time.sleep(0.05)
            else:
                return
        log = self._place.log_dir / "supervisor.log"
        raise CannotStart(f"The process runner does not start:\n{_tail(log)}\nSee {log}")

    @property
    def alive(self) -> bool:
        """Whether supervisord itself runs."""
        return self._process.poll() is None

    def start_platform(self) -> None:
        """Start what `/readyz` waits for; it is watched, not waited for."""
        self._start(at_once=True)

    def start_rest(self) -> None:
        """Start the other workers: at the very start they would only take the cores."""
        self._start(at_once=False)

    def _start(self, *, at_once: bool) -> None:
        for program in self._programs:
            if program.at_once is at_once:
                self._ask("startProcess", f"{PLATFORM_GROUP}:{program.name}", False)

    def pids(self) -> dict[str, int]:
        """The process id of each child that runs."""
        return {info["name"]: info["pid"] for info in self._all() if info["pid"]}

    def trouble(self) -> list[Trouble]:
        """Children started for the third time in two minutes; each told once until it recovers."""
        now = time.monotonic()
        found = []
        for info in self._all():
            name = info["name"]
            starts = self._starts.setdefault(name, [])
            if info["start"] and (not starts or starts[-1][0] != info["start"]):
                starts.append((info["start"], now))
            starts[:] = [entry for entry in starts if now - entry[1] < LOOP_WITHIN_S] or starts[-1:]
            if len(starts) >= 3 and name not in self._told:
                self._told.add(name)
                log = log_of(self._place, name)
                found.append(Trouble(name, log, _tail(log)))
            elif len(starts) == 1 and info["statename"] == "RUNNING":
                self._told.discard(name)
        return found

    def _all(self) -> list[dict[str, Any]]:
        try:
            infos: list[dict[str, Any]] = self._ask("getAllProcessInfo")
        except (*UNREACHABLE, Fault):
            # It is stopping or gone; `alive` tells which.
            return []
        return infos

    def _ask(self, question: str, *arguments: object) -> Any:
        # A new connection each time: supervisor's transport does not survive a refused one.
        transport = SupervisorTransport(None, None, f"unix://{control_socket(self._place)}")
        with ServerProxy("http://localhost", transport=transport) as server:
            return getattr(server.supervisor, question)(*arguments)

    def stop(self) -> None:
        """Stop all children in order, then supervisord; what resists is killed."""
        left = self.pids()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            for pid in left.values():
                _kill(pid)
            self._process.kill()
            self._process.wait()


def adopt_orphans() -> None:
    """From now on whose parent dies is our child, not that of the system's first process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """Kill what outlived its worker: a leader that still waits for its database, with its training.

    The next start gives its task another attempt.
    """
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # gone by itself meanwhile
        os.kill(pid, signal.SIGKILL)


@contextmanager
def supervised(place: Place, environment: Mapping[str, str]) -> Iterator[Supervisor]:
    """Run supervisord with the store in it, and stop everything at the end, however it comes."""
    external = bool(environment.get("PLATFORM_REDIS_URL"))
    store = [] if external else [redis_program(place)]
    path = place.runtime_dir / "supervisord.conf"
    platform = programs(place)
    path.write_text(configuration(place, store=store, platform=platform))
    # A session of its own: Ctrl-C at the terminal reaches this process alone, which then stops
    # the others in their order.
    words = (place.log_dir / "supervisor.log").open("ab")
    process = subprocess.Popen(
        [*LIFELINE, sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
        cwd=CHECKOUT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        start_new_session=True,
    )
    words.close()
    supervisor = Supervisor(place, process, platform=platform)
    try:
        supervisor.wait_until_up()
        if store:
            wait_for_redis(place)
        yield supervisor
    finally:
        supervisor.stop()


def wait_for_redis(place: Place, *, deadline_s: float = 20) -> None:
    """Raises: CannotStart, if our Redis does not answer in time."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if _redis_answers(place.runtime_dir / "redis.sock"):
            return
        time.sleep(0.05)
    log = log_of(place, "redis")
    raise CannotStart(f"Redis does not start. The end of {log}:\n{_tail(log)}")


def _redis_answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log; as much of them as there is."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(nothing was written)"

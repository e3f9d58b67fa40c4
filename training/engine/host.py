"""The engine host: imports Qlib once, holds no secret, never trains; runs one training at a time.

Its next training is forked in advance and waits as a spare: to fork so large a process takes 20 ms.

Started with an empty environment by `keeper.EngineHost`. Descriptor 0 is a pipe whose writer is the
worker (and its forks): at its end the host leaves. It must have exactly one thread when it forks,
and OpenMP must never run in it, or its forks hang.
"""

import argparse
import gc
import importlib
import importlib.util
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from training.catalogue import load
from training.engine import child, openmp, walls
from training.engine.protocol import Channel, Malformed, Message, is_readable

PRELOAD = (
    "lightgbm",
    "qlib.contrib.model.gbdt",
    "qlib.contrib.model.linear",
    "qlib.contrib.model.double_ensemble",
    "qlib.contrib.data.handler",
    "qlib.contrib.strategy",
    "qlib.workflow.record_temp",
    "qlib.backtest.executor",
)
# Qlib's model package imports these and torch where they are installed: still one thread.
OPTIONAL_PRELOAD = ("xgboost", "catboost")
OWN_PRELOAD = ("training.engine.stages",)

REQUEST_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 2.0
SWEEP_TIMEOUT_S = 5.0
# A stop or continue of the training is noticed by looking this often; its death at once.
LOOK_INTERVAL_MS = 250


def main() -> None:
    """Imports, checks that a fork is safe, then serves until the worker is gone."""
    arguments = _parse_arguments()
    for number in (signal.SIGINT, signal.SIGHUP):
        # Ctrl-C in a terminal is the worker's to act on.
        signal.signal(number, signal.SIG_IGN)
    walls.adopt_orphans()
    walls.forbid_new_privileges()
    openmp.ensure_findable(arguments.runtime_dir)
    if arguments.preload:
        preload()
    # Until now it ends a host that is not wanted any more: none sees its line while it imports.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    probes = _load_file(arguments.probes) if arguments.probes else None
    check_single_threaded()
    gc.collect()
    gc.freeze()
    gc.disable()
    serve_forever(socket.socket(fileno=arguments.listen_fd), probes)


def preload() -> None:
    """Imports the engine. What is optional may be absent; what is there must import."""
    for name in PRELOAD:
        importlib.import_module(name)
    for name in (*OPTIONAL_PRELOAD, *OWN_PRELOAD):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    # Read here, as the walls of a training do not let it read an administrator's file.
    load()


def check_single_threaded() -> None:
    """Raises SystemExit with the names of the threads, if there is more than one."""
    names = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in _tasks()]
    if len(names) != 1:
        raise SystemExit(f"The host must have one thread before it forks; it has: {sorted(names)}")


def serve_forever(listener: socket.socket, probes: ModuleType | None) -> None:
    """One leader after the other; others wait in the listener's backlog."""
    poller = select.poll()
    poller.register(0, select.POLLIN)
    poller.register(listener, select.POLLIN)
    nursery = Nursery(_finder(probes))
    while True:
        nursery.prepare()
        ready = {descriptor for descriptor, _ in poller.poll()}
        if 0 in ready:
            return
        connection, _ = listener.accept()
        with connection:
            _serve(connection, nursery)


@dataclass(frozen=True)
class Spare:
    """A fork that waits for its request; host_end: the life line that is cut with this host."""

    pid: int
    pidfd: int
    channel: Channel
    host_end: int

    def is_alive(self) -> bool:
        return not is_readable(self.pidfd)

    def close(self) -> None:
        os.close(self.pidfd)
        os.close(self.host_end)
        self.channel.close()


class Nursery:
    """Holds the spare. find_train: see `child.become_training`."""

    def __init__(self, find_train: Any) -> None:
        self._find_train = find_train
        self._spare: Spare | None = None

    def prepare(self) -> None:
        """Have a spare, if the machine has room for one now."""
        try:
            self._spare = self._spare or self._fork()
        except OSError as error:
            # `take` tries again, and tells the leader if there is still no room.
            sys.stderr.write(f"No spare: {error}\n")

    def take(self) -> Spare:
        """A living spare, which is the caller's now. Raises: OSError."""
        spare, self._spare = self._spare, None
        if spare is not None and not spare.is_alive():
            os.waitpid(spare.pid, 0)
            spare.close()
            spare = None
        return spare or self._fork()

    def _fork(self) -> Spare:
        host_line, host_end = os.pipe()
        mine, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            for descriptor in (host_line, host_end, mine.detach(), theirs.detach()):
                os.close(descriptor)
            raise
        if pid == 0:
            child.wait_to_train(theirs.detach(), host_line, find_train=self._find_train)
        theirs.close()
        os.close(host_line)
        return Spare(pid, os.pidfd_open(pid), Channel(mine), host_end)


def is_leader(connection: socket.socket) -> bool:
    """Whether the peer is the worker that started this host, or a fork of it.

    A training knows the socket's path too; without this check it could ask for a second training
    with walls of its own choice.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = int.from_bytes(credentials[:4], sys.byteorder)
    return os.getppid() in (pid, _parent_of(pid))


def _serve(connection: socket.socket, nursery: Nursery) -> None:
    connection.settimeout(SEND_TIMEOUT_S)
    channel = Channel(connection)
    try:
        request = channel.receive_one(REQUEST_TIMEOUT_S) if is_leader(connection) else None
        wanted = len(channel.descriptors) == 3 and not _has_hung_up(connection)
        if request is not None and request.get("type") == "start" and wanted:
            _run_training(channel, request, nursery.take())
    except (Malformed, OSError) as error:
        # A request that can't be served concerns its sender only, who sees the end of the stream.
        sys.stderr.write(f"A request was dropped: {type(error).__name__}: {error}\n")
    finally:
        channel.close()


def _run_training(channel: Channel, request: Message, spare: Spare) -> None:
    """Gives the spare its request, waits for its end, sweeps, and tells the leader how it ended."""
    started_at = time.monotonic()
    # A spare that dies just now is told as what it is: a training that was killed.
    with suppress(BrokenPipeError):
        spare.channel.send(request, channel.descriptors)
    for descriptor in channel.descriptors:
        os.close(descriptor)
    channel.descriptors.clear()
    _join_own_group(spare.pid)
    _tell(channel, {"type": "started", "pid": spare.pid}, [spare.pidfd])
    _wait_for_end(channel, spare.pid, spare.pidfd)
    ending = sweep(spare.pid)
    spare.close()
    _tell(channel, {"type": "exit", **ending, "wall_s": time.monotonic() - started_at})


def _finder(probes: ModuleType | None) -> Any:
    """How the training finds its function: the engine's or, in a host for tests, a probe."""

    def find_train(job: Message) -> child.Train:
        if probes is not None and "probe" in job:
            probe: child.Train = getattr(probes, job["probe"])
            return probe
        stages = importlib.import_module("training.engine.stages")
        train: child.Train = stages.train
        return train

    return find_train


def _wait_for_end(channel: Channel, pid: int, pidfd: int) -> None:
    """Until the training is dead. A leader that hangs up, or says anything, has it killed."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(channel, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(LOOK_INTERVAL_MS)}
        if pidfd in ready:
            return
        change = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if change is not None:
            kind = "stopped" if change.si_code == os.CLD_STOPPED else "continued"
            _tell(channel, {"type": kind, "signal": change.si_status})
        if channel.fileno() in ready:
            os.killpg(pid, signal.SIGKILL)
            poller.unregister(channel)


def sweep(pid: int) -> Message:
    """Reaps a dead training and kills all it left: its group, and children that left the group.

    The training must be a zombie still, so that its group's id can't belong to another by now.
    """
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        # It died before it had a group of its own, so the group has no other members.
        sys.stderr.write(f"Training {pid} had no group.\n")
    _, status, usage = os.wait4(pid, 0)
    swept: set[int] = set()
    deadline = time.monotonic() + SWEEP_TIMEOUT_S
    while (orphans := _children()) and time.monotonic() < deadline:
        for orphan in orphans:
            swept.add(orphan)
            os.kill(orphan, signal.SIGKILL)
        while _reap_one():
            pass
        time.sleep(0.002)
    died_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {
        "signal": died_by,
        "code": None if died_by else os.WEXITSTATUS(status),
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "swept": len(swept),
    }


def _reap_one() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _join_own_group(pid: int) -> None:
    """Done by the training too, so that the group exists before the leader knows the pid."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        # It has gone on already, and has done it itself.
        return


def _tell(channel: Channel, message: Message, descriptors: Any = ()) -> None:
    try:
        channel.send(message, descriptors)
    except OSError:
        # The leader is gone or does not listen: its life line ends the training, see _wait_for_end.
        return


def _has_hung_up(connection: socket.socket) -> bool:
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    return bool(poller.poll(0))


def _tasks() -> list[str]:
    return os.listdir("/proc/self/task")


def _children() -> list[int]:
    """Direct children, adopted ones included."""
    return [
        int(pid) for pid in Path("/proc/self/task", _tasks()[0], "children").read_text().split()
    ]


def _parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _load_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("probes", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"No Python file: {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine-host", description=__doc__)
    parser.add_argument("listen_fd", type=int)
    parser.add_argument("--runtime-dir", type=Path, required=True)
    parser.add_argument("--no-preload", dest="preload", action="store_false")
    parser.add_argument("--probes", help="a file of functions that a job may name; tests only")
    return parser.parse_args()


if __name__ == "__main__":
    main()

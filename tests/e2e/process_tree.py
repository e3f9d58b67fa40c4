"""Which processes of a platform are alive: leaders, engine hosts, trainings, and what is left over.

They are known by what the kernel says of them, not by what the platform says.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


@dataclass(frozen=True)
class Seen:
    """One live process."""

    pid: int
    parent: int
    group: int
    command: str
    folder: str


def look() -> list[Seen]:
    """All live processes of the machine; a zombie is none."""
    seen = []
    for process in psutil.process_iter():
        with suppress(*GONE, ProcessLookupError):
            if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
                continue
            pid = process.pid
            command = " ".join(process.cmdline())
            seen.append(Seen(pid, process.ppid(), os.getpgid(pid), command, _folder(process)))
    return seen


def _folder(process: psutil.Process) -> str:
    with suppress(*GONE, OSError):
        return str(process.cwd())
    return ""


@dataclass(frozen=True)
class Tree:
    """The worker processes of the platform that has this state directory.

    parents: the pids of its RQ workers.
    """

    state_dir: Path
    parents: frozenset[int]

    def horses(self) -> list[int]:
        """The leaders: forks of a worker, also of one that has died."""
        return [
            one.pid
            for one in look()
            # The environment of a worker can't be read; its name has the platform's own in it.
            if " worker cpu " in one.command
            and self.state_dir.name in one.command
            and one.pid not in self.parents
            # A spare is in its parent's group until it is set to work.
            and one.pid == one.group
        ]

    def hosts(self) -> list[int]:
        """The engine hosts of living workers."""
        return [one.pid for one in self._engine() if one.parent in self.parents]

    def trainings(self) -> list[int]:
        """The processes that an engine host has forked; each leads a group of its own."""
        engine = self._engine()
        pids = {one.pid for one in engine}
        return [one.pid for one in engine if one.parent in pids and one.pid == one.group]

    def orphans(self) -> list[Seen]:
        """What is left of trainings and hosts beside living workers' hosts and their spares."""
        hosts = set(self.hosts())
        return [
            one
            for one in self._engine()
            if one.parent not in self.parents
            and not (one.parent in hosts and one.group == one.parent)
        ]

    def _engine(self) -> list[Seen]:
        state = str(self.state_dir)
        scratch = str(self.state_dir / "scratch")
        return [
            one
            for one in look()
            if ("training.engine.host" in one.command and state in one.command)
            or one.folder.startswith(scratch)
        ]


def with_descendants(pids: Iterable[int]) -> list[int]:
    """The processes and all that descend from them."""
    found = []
    for pid in pids:
        with suppress(*GONE):
            process = psutil.Process(pid)
            found += [pid, *(child.pid for child in process.children(recursive=True))]
    return found


def kill(pids: Iterable[int]) -> None:
    """SIGKILL to each; one that has gone is none the worse."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def members(group: int) -> list[int]:
    """The live processes of a group."""
    return [one.pid for one in look() if one.group == group]

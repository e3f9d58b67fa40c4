"""Everything at once for as long as you like: tasks and watchers all along, one fault a minute.

    python -m tests.faults.soak var/soak.jsonl --minutes 60
    python -m tests.faults.soak var/soak.jsonl --minutes 120       # goes on where it stopped
    python -m tests.faults.soak var/soak.jsonl --quiet 20:52-21:06 # nothing happens meanwhile (UTC)

A line of JSON a minute goes to the log: the fault, the tasks that ended, what was wrong, memory
and descriptors of the long-lived processes. Minutes of earlier runs that stand there count; each
run has a platform of its own. At the end: a summary of the whole log. Exit code 1: a violation.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.e2e import checks, databases, market, workflows
from tests.e2e.client import FINAL, Client, Subscriber
from tests.e2e.platform_processes import Platform, running

from .faults import FAULTS, Fault, Scene

MINUTE_S = 60.0
OPEN_TASKS = 2
AUDIT_EVERY = 5
"""Minutes."""
FAULT_TAKES_S = 100.0
"""None begins so shortly before a quiet time."""
ENDS = {"completed", "failed training_killed", "failed worker_lost", "failed host_lost"}
"""`*_lost`: two faults have met one task, or one was poison."""
STUCK_S = 240.0

KINDS = [fault for fault in FAULTS if fault.place is None]


@dataclass(frozen=True)
class Quiet:
    """Times of the day when nothing may happen, in minutes since midnight, UTC."""

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, texts: list[str]) -> "Quiet":
        """Raises: ValueError, if one is not like 20:52-21:06."""
        return cls(tuple(tuple(map(_minute, text.split("-", 1))) for text in texts))  # type: ignore[misc]

    def is_now(self, *, ahead_s: float = 0) -> bool:
        """Now, or within so many seconds."""
        now = datetime.now(UTC)
        minute = now.hour * 60 + now.minute + now.second / 60
        return any(begin - ahead_s / 60 <= minute < end for begin, end in self.spans)


def _minute(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


@dataclass
class Soak:
    """One run of it."""

    platform: Platform
    text: str
    chance: random.Random
    quiet: Quiet
    watched: dict[str, Subscriber] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    events: int = 0
    undone: list[Callable[[], object]] = field(default_factory=list)

    @property
    def client(self) -> Client:
        return self.platform.client

    def submit(self, *, key: str = "") -> str:
        """One more task, with a watcher from its first event on."""
        whole = f"{key or 'soak'}-{time.time_ns()}"
        task_id = self.client.insist(self.text, key=whole, within_s=120)
        self.watched[task_id] = Subscriber(self.client, task_id)
        self.since[task_id] = time.monotonic()
        return task_id

    def minute(self, fault: Fault | None) -> str:
        """Tasks all along for a minute, the fault somewhere in it; what the fault said."""
        end = time.monotonic() + MINUTE_S
        at = time.monotonic() + self.chance.uniform(2, 20)
        what = ""
        while time.monotonic() < end:
            if fault and time.monotonic() >= at:
                what, fault = self._happen(fault), None
            if not self.quiet.is_now(ahead_s=45):
                while len(self.watched) < OPEN_TASKS:
                    self.submit()
            self._gather()
            time.sleep(0.5)
        while self.undone:
            self.undone.pop()()
        return what

    def _happen(self, fault: Fault) -> str:
        scene = Scene(self.platform, self.chance, self.submit)
        try:
            return fault.happen(scene)
        except (AssertionError, requests.RequestException, psutil.Error) as error:
            self.wrong.append(f"{fault.name}: {error}")
            return "did not come to its end"
        finally:
            self.undone += scene.afterwards
            self.platform.start(workers=len(self.platform.workers()))

    def _gather(self) -> None:
        """Judge the tasks that have ended; the watchers of the others stay."""
        for task_id in list(self.watched):
            try:
                task = self.client.task(task_id)
            except AssertionError as error:
                self.wrong.append(str(error))
                return
            if task["status"] in FINAL:
                self._judge(task, self.watched.pop(task_id))
                del self.since[task_id]
            elif time.monotonic() - self.since[task_id] > STUCK_S:
                self.wrong.append(f"{task_id} is {task['status']} after {STUCK_S:.0f} s")
                self.watched.pop(task_id).leave()
                del self.since[task_id]

    def _judge(self, task: dict[str, Any], heard: Subscriber) -> None:
        end = f"{task['status']} {task['error_code']}".strip()
        try:
            heard.wait_for_end(within_s=30)
            folder = self.platform.state_dir / "artifacts"
            self.wrong += checks.faults_of(self.client, task, heard=heard, artifacts_dir=folder)
        except AssertionError as error:
            self.wrong.append(str(error))
        heard.leave()
        if end not in ENDS:
            self.wrong.append(f"{task['id']} is {end}: {task['error']}")
        self.ends[end] += 1
        self.events += task["last_seq"]

    def finish(self) -> None:
        """Until all have ended."""
        deadline = time.monotonic() + STUCK_S
        while self.watched and time.monotonic() < deadline:
            self._gather()
            time.sleep(0.5)
        self.wrong += [f"{task_id} has not ended" for task_id in self.watched]
        self.audit()

    def audit(self) -> None:
        try:
            self.platform.manage("audit")
        except AssertionError as error:
            self.wrong.append(str(error))

    def told(self) -> dict[str, Any]:
        """What has come since it was told last."""
        told = {"ends": dict(self.ends), "events": self.events, "wrong": self.wrong}
        self.ends, self.events, self.wrong = Counter(), 0, []
        return told

    def sizes(self) -> dict[str, dict[str, int]]:
        """By long-lived process: its id, resident memory in bytes, open descriptors.

        Not what is its own alone: a fork that comes and goes shares nearly all of a worker's.
        """
        found = {}
        for name, pid in self._pids():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                resident = process.memory_info().rss
                found[name] = {"pid": pid, "bytes": resident, "descriptors": process.num_fds()}
        return found

    def _pids(self) -> Iterator[tuple[str, int]]:
        for name, process in self.platform.processes.items():
            if process.poll() is None:
                yield name, process.pid
        for number, pid in enumerate(self.platform.tree.hosts(), 1):
            yield f"engine-{number}", pid


def run(given: argparse.Namespace) -> int:
    done = minutes_of(given.log)
    quiet = Quiet.of(given.quiet)
    with (
        databases.fresh(given.database) as url,
        tempfile.TemporaryDirectory(prefix="soak-") as datasets,
        running(database_url=url, datasets_dir=Path(datasets)) as platform,
    ):
        sizes = {"instruments": 4, "test_days": 40, "rounds": 5}
        text = workflows.small(market.import_into(platform), **sizes, when_no_worker="wait")
        platform.start(workers=given.workers)
        soak = Soak(platform, text, random.SystemRandom(), quiet)
        kinds = [fault for fault in KINDS if platform.database in fault.databases]
        while len(done) < given.minutes:
            quiet_now = quiet.is_now(ahead_s=FAULT_TAKES_S)
            fault = None if quiet_now else soak.chance.choice(kinds)
            record = one_minute(soak, fault, run_id=os.getpid())
            if len(done) % AUDIT_EVERY == 0 and not quiet.is_now(ahead_s=10):
                soak.audit()
            if not quiet.is_now():
                done.append(record)
                write(given.log, {**record, **soak.told()})
        soak.finish()
        words = platform.last_words() if soak.wrong else ""
        write(given.log, {"end": True, "run": os.getpid(), **soak.told()})
    sys.stderr.write(words)
    return summary(given.log)


def one_minute(soak: Soak, fault: Fault | None, *, run_id: int) -> dict[str, Any]:
    what = soak.minute(fault)
    return {
        "run": run_id,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fault": fault.name if fault else None,
        "what": what,
        "sizes": soak.sizes(),
    }


def write(log: Path, record: dict[str, Any]) -> None:
    with log.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def minutes_of(log: Path) -> list[dict[str, Any]]:
    """The minutes that are done; the lines that end a run are none."""
    return [record for record in read(log) if not record.get("end")]


def summary(log: Path) -> int:
    """Print what the whole log comes to; 1 if anything was wrong."""
    records = read(log)
    minutes = minutes_of(log)
    ends: Counter[str] = Counter()
    for record in records:
        ends.update(record["ends"])
    faults = Counter(record["fault"] for record in minutes if record["fault"])
    wrong = [one for record in records for one in record["wrong"]]
    told = {
        "minutes": len(minutes),
        "runs": len({record["run"] for record in records}),
        "tasks": dict(ends),
        "events": sum(record["events"] for record in records),
        "faults": dict(faults),
        "violations": wrong,
        "longest_lives": slopes(minutes),
    }
    print(json.dumps(told, indent=1))  # noqa: T201
    return 1 if wrong else 0


def slopes(minutes: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By kind of process, of the one that lived longest: memory and descriptors over its life.

    The first two minutes are left out: what is imported and kept on first use is no leak.
    """
    lives: dict[tuple[str, int, int], list[tuple[int, dict[str, int]]]] = {}
    for number, record in enumerate(minutes):
        for name, size in record["sizes"].items():
            lives.setdefault((name, record["run"], size["pid"]), []).append((number, size))
    found: dict[str, dict[str, float]] = {}
    for (name, _, _), life in lives.items():
        kept = life[2:]
        if len(kept) < 3 or len(kept) <= found.get(name, {"minutes": 0})["minutes"]:
            continue
        xs = [float(number) for number, _ in kept]
        mib = [size["bytes"] / 2**20 for _, size in kept]
        found[name] = {
            "minutes": len(kept),
            "first_mib": round(mib[0], 1),
            "last_mib": round(mib[-1], 1),
            "mib_per_hour": round(60 * _slope(xs, mib), 2),
            "descriptors_first": kept[0][1]["descriptors"],
            "descriptors_last": kept[-1][1]["descriptors"],
        }
    return found


def _slope(xs: list[float], ys: list[float]) -> float:
    """Of the line of least squares."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((one - x) ** 2 for one in xs)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / spread


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quiet", action="append", default=[], metavar="HH:MM-HH:MM")
    parser.add_argument("--summary", action="store_true", help="of the log as it is; run nothing")
    given = parser.parse_args()
    return summary(given.log) if given.summary else run(given)


if __name__ == "__main__":
    sys.exit(main())

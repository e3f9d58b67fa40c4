"""The faults: what happens to which part, and how it is mended, as a supervisor would.

A fault returns when it is over. What must be undone only after the round it leaves in
`scene.afterwards`.
"""

import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests import postgres
from tests.e2e import process_tree
from tests.e2e.platform_processes import LEASE_S, Platform
from tests.e2e.waiting import until

from . import crowd, places

AWAY_S = 1.0
RINGS = 50
"""So many show that Redis was told again; all that wait are never told at once."""
BOTH = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Scene:
    """Where a fault happens.

    submit: posts one more task of the round and returns its id; with a key it insists, as a
    client whose answer was lost does.
    """

    platform: Platform
    chance: random.Random
    submit: Callable[..., str]
    afterwards: list[Callable[[], object]] = field(default_factory=list)

    def within(self, least_s: float, most_s: float) -> float:
        return self.chance.uniform(least_s, most_s)

    def one_of(self, look: Callable[[], list[int]], what: str) -> int:
        """One of the processes, as soon as there is one; there is more work if there is none."""
        if not look():
            self.submit()
        return self.chance.choice(until(look, what=what, within_s=40))


Happen = Callable[[Scene], str]


@dataclass(frozen=True)
class Fault:
    """happen: does it, and says to whom.

    allowed_ends: beside `completed`, at most so often among all tasks; costs_attempts: whether
    an attempt may be lost by it; place: what its platform stands on, if it needs one of its own.
    """

    name: str
    happen: Happen
    allowed_ends: tuple[str, ...] = ()
    costs_attempts: bool = True
    databases: tuple[str, ...] = BOTH
    place: Callable[[Platform], AbstractContextManager[None]] | None = None


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """SIGSTOP to all of them, and SIGCONT at the end."""
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        # One that has gone is none the worse.
        if psutil.pid_exists(pid):
            psutil.Process(pid).send_signal(number)


# ── Processes that die ──────────────────────────────────────────────────────────────────


def kill_horse(scene: Scene) -> str:
    pid = scene.one_of(scene.platform.tree.horses, "a work-horse")
    process_tree.kill([pid])
    return f"horse {pid}"


def kill_host(scene: Scene) -> str:
    pid = scene.one_of(scene.platform.tree.hosts, "an engine host")
    process_tree.kill([pid])
    return f"host {pid}"


def kill_training(scene: Scene) -> str:
    pid = scene.one_of(scene.platform.tree.trainings, "a training")
    process_tree.kill([pid])
    return f"training {pid}"


def kill_parent(scene: Scene) -> str:
    platform = scene.platform
    name = scene.chance.choice(platform.workers())
    platform.kill(name)
    platform.start_worker(name)
    return name


def kill_worker(scene: Scene) -> str:
    platform = scene.platform
    name = scene.chance.choice(platform.workers())
    platform.kill_tree(name)
    platform.start_worker(name)
    return name


def kill_web(scene: Scene) -> str:
    scene.platform.kill("web")
    scene.platform.start_web()
    return "web"


def kill_all(scene: Scene) -> str:
    platform = scene.platform
    names = list(platform.processes)
    platform.kill_tree(*names)
    platform.start(workers=len(platform.workers()))
    return ", ".join(names)


def kill_reconciler(scene: Scene) -> str:
    """And a work-horse while nobody is there to notice."""
    platform = scene.platform
    platform.kill("reconcile")
    what = kill_horse(scene)
    time.sleep(scene.within(0, LEASE_S))
    platform.start_reconciler()
    return f"reconciler, {what}"


def second_reconciler(scene: Scene) -> str:
    """Both see the same lost leader."""
    platform = scene.platform
    platform.start_reconciler("reconcile-2")

    def end() -> None:
        platform.terminate("reconcile-2")
        del platform.processes["reconcile-2"]

    scene.afterwards.append(end)
    return f"two reconcilers, {kill_horse(scene)}"


# ── Processes that freeze, and come back ────────────────────────────────────────────────


def freeze_horse(scene: Scene) -> str:
    """For longer than its lease: another attempt runs when it wakes up."""
    pid = scene.one_of(scene.platform.tree.horses, "a work-horse")
    seconds = scene.within(1.5, 2.5) * LEASE_S
    with frozen([pid]):
        time.sleep(seconds)
    return f"horse {pid} for {seconds:.1f} s"


def freeze_worker(scene: Scene) -> str:
    """The whole machine, as it were: parent, work-horse, engine host and training."""
    name = scene.chance.choice(scene.platform.workers())
    pids = process_tree.with_descendants([scene.platform.processes[name].pid])
    seconds = scene.within(1.5, 2.5) * LEASE_S
    with frozen(pids):
        time.sleep(seconds)
    return f"{name}, {len(pids)} processes, for {seconds:.1f} s"


def freeze_training(scene: Scene) -> str:
    """Its leader goes on renewing the lease, so it may take as long as it likes."""
    pid = scene.one_of(scene.platform.tree.trainings, "a training")
    seconds = scene.within(1, 2) * LEASE_S
    with frozen([pid]):
        time.sleep(seconds)
    return f"training {pid} for {seconds:.1f} s"


# ── Poison: it takes each of its attempts down ──────────────────────────────────────────


def poison_worker(scene: Scene) -> str:
    return _poison(scene, _horse_of, "worker_lost")


def poison_host(scene: Scene) -> str:
    return _poison(scene, _host_of, "host_lost")


def _poison(scene: Scene, victim: Callable[[Platform, str], list[int]], code: str) -> str:
    """It ends after `max_attempts`, and says why."""
    platform, client = scene.platform, scene.platform.client
    task_id = scene.submit()
    for attempt in (1, 2):

        def runs(wanted: int = attempt) -> dict[str, Any] | None:
            task = client.task(task_id)
            return task if (task["status"], task["attempt"]) == ("running", wanted) else None

        worker = until(runs, what=f"attempt {attempt}", within_s=90)["worker"]
        name = worker.removesuffix(f"-{platform.state_dir.name}")
        process_tree.kill(victim(platform, name))
    task = client.final(task_id, within_s=60)
    told = (task["status"], task["error_code"], task["attempt"])
    assert told == ("failed", code, 2), f"the poison task ended as {told}"
    assert "no attempt is left" in task["error"]
    return f"{task_id}: {task['error']}"


def _horse_of(platform: Platform, name: str) -> list[int]:
    children = psutil.Process(platform.processes[name].pid).children()
    return [one.pid for one in children if one.pid in platform.tree.horses()]


def _host_of(platform: Platform, name: str) -> list[int]:
    children = psutil.Process(platform.processes[name].pid).children()
    return [one.pid for one in children if one.pid in platform.tree.hosts()]


# ── Workers that leave in order ─────────────────────────────────────────────────────────


def stop_worker(scene: Scene) -> str:
    platform = scene.platform
    name = scene.chance.choice(platform.workers())
    code = platform.terminate(name)
    assert code == 0, f"{name} ended with {code}"
    platform.start_worker(name)
    return name


def drain_worker(scene: Scene) -> str:
    """It ends what it runs and takes nothing more until it is resumed."""
    platform, client = scene.platform, scene.platform.client
    name = f"{scene.chance.choice(platform.workers())}-{platform.state_dir.name}"

    def runs() -> list[str]:
        path = "/api/tasks?status=running"
        return [one["id"] for one in client.read(path).json()["results"] if one["worker"] == name]

    before = runs()
    assert client.call("POST", f"/api/workers/{name}/drain").ok
    until(lambda: not runs(), what=f"{name} with nothing to do", within_s=90)
    scene.submit()
    scene.submit()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        taken = set(runs()) - set(before)
        # What it had claimed at the very moment is its own.
        assert len(taken) <= (not before), f"{name} drains and has taken {taken}"
        before = before or list(taken)
        time.sleep(0.2)
    assert client.call("POST", f"/api/workers/{name}/resume").ok
    return f"{name}, which ran {len(before)}"


def wrong_clock(scene: Scene) -> str:
    """The worker's clock is an hour wrong; the database's is the one that counts."""
    platform = scene.platform
    name = scene.chance.choice(platform.workers())
    offset = scene.chance.choice(["+1h", "-1h"])
    platform.terminate(name)
    platform.start_worker(name, **places.clock(offset))

    def mend() -> None:
        platform.terminate(name)
        platform.start_worker(name)

    scene.afterwards.append(mend)
    # Work for both workers, so that the one with the clock has its share.
    for _ in range(2):
        scene.submit()
    return f"{name} {offset}"


# ── Redis ───────────────────────────────────────────────────────────────────────────────


def kill_redis(scene: Scene) -> str:
    scene.platform.kill("redis")
    time.sleep(AWAY_S)
    scene.platform.start_redis()
    return "redis"


def redis_away(scene: Scene) -> str:
    seconds = scene.within(10, 25)
    scene.platform.kill("redis")
    _submit_meanwhile(scene, seconds)
    scene.platform.start_redis()
    return f"for {seconds:.1f} s"


def flush_redis(scene: Scene) -> str:
    with scene.platform.redis() as connection:
        connection.flushall()
    return "redis"


def freeze_redis(scene: Scene) -> str:
    seconds = scene.within(5, 30)
    with frozen([scene.platform.processes["redis"].pid]):
        _submit_meanwhile(scene, seconds)
    return f"for {seconds:.1f} s"


def slow_redis(scene: Scene) -> str:
    """Awake for a tenth of a second, then deaf for four."""
    seconds = scene.within(5, 20)
    end = time.monotonic() + seconds
    pid = scene.platform.processes["redis"].pid
    scene.submit()
    while time.monotonic() < end:
        with frozen([pid]):
            time.sleep(0.4)
        time.sleep(0.1)
    return f"for {seconds:.1f} s"


def fill_redis(scene: Scene) -> str:
    """It refuses every write that could take memory."""
    seconds = scene.within(5, 20)
    with scene.platform.redis() as connection:
        connection.config_set("maxmemory-policy", "noeviction")
        connection.config_set("maxmemory", 1)
        _submit_meanwhile(scene, seconds)
        connection.config_set("maxmemory", 0)
    return f"for {seconds:.1f} s"


def redis_only_reads(scene: Scene) -> str:
    """It takes itself for the replica of a server that is not there."""
    seconds = scene.within(5, 20)
    with scene.platform.redis() as connection:
        connection.execute_command("REPLICAOF", "127.0.0.1", "1")
        _submit_meanwhile(scene, seconds)
        connection.execute_command("REPLICAOF", "NO", "ONE")
    return f"for {seconds:.1f} s"


def _submit_meanwhile(scene: Scene, seconds: float) -> None:
    """A submission in the midst of it is answered 201."""
    end = time.monotonic() + seconds
    time.sleep(seconds * scene.chance.random() / 2)
    scene.submit()
    time.sleep(max(end - time.monotonic(), 0))


def deliver_twice(scene: Scene) -> str:
    """Every ring that Redis remembers comes three times more, the ones that were heard too."""
    with scene.platform.redis() as connection:
        jobs = [key.removeprefix(b"rq:job:") for key in connection.keys("rq:job:*")]
        ids = [job for job in jobs if b":" not in job]
        for job in ids * 3:
            connection.rpush("rq:queue:cpu", job)
    return f"{len(ids)} rings"


def flush_under_a_crowd(scene: Scene) -> str:
    """10,000 tasks wait when Redis forgets all of it."""
    platform = scene.platform
    first = scene.submit()
    crowd.run(platform, "make", str(crowd.SIZE), first)
    with platform.redis() as connection:
        begun = time.monotonic()
        connection.flushall()
        until(
            lambda: connection.llen("rq:queue:cpu") >= RINGS,
            what="rings for the crowd",
            within_s=60,
        )
    seconds = time.monotonic() - begun
    kept = int(crowd.run(platform, "count"))
    crowd.run(platform, "cancel")
    assert kept == crowd.SIZE, f"{kept} of {crowd.SIZE} tasks are there"
    return f"{kept} tasks, rung again after {seconds:.1f} s"


# ── The database ────────────────────────────────────────────────────────────────────────


def freeze_postgres(scene: Scene) -> str:
    seconds = scene.within(3, 20)
    pids = process_tree.with_descendants([postgres.pid_of(scene.platform.database_url)])
    with frozen(pids):
        time.sleep(seconds)
    scene.submit(key="after")
    return f"{len(pids)} processes for {seconds:.1f} s"


def stop_postgres(scene: Scene) -> str:
    """As by `kill -9` of all of it, in the eyes of its clients; it recovers from its log."""
    seconds = scene.within(2, 15)
    with postgres.stopped(scene.platform.database_url):
        time.sleep(seconds)
    scene.submit(key="after")
    return f"for {seconds:.1f} s"


def cut_postgres(scene: Scene) -> str:
    """Every connection is ended, again and again."""
    seconds = scene.within(3, 8)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += postgres.cut_connections(scene.platform.database_url)
        time.sleep(0.3)
    scene.submit(key="after")
    return f"{count} connections in {seconds:.1f} s"


def lock_sqlite(scene: Scene) -> str:
    """Another process holds the lock of writers."""
    seconds = scene.within(5, 30)
    path = scene.platform.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    scene.submit(key="after")
    return f"for {seconds:.1f} s"


# ── The disk ────────────────────────────────────────────────────────────────────────────


def fill_disk(scene: Scene) -> str:
    """No room where artifacts are kept, or too little for all of them, until a task has ended."""
    platform = scene.platform
    left = scene.chance.randrange(200_000)
    filler = platform.state_dir / "artifacts" / "filler"
    _fill(filler, leave=left)
    task_id = scene.submit()
    platform.client.final(task_id, within_s=90)
    filler.unlink()
    return f"{left} bytes were left"


def _fill(path: Path, *, leave: int) -> None:
    free = psutil.disk_usage(str(path.parent)).free
    with path.open("wb") as file:
        file.write(b"x" * max(free - leave, 0))


FAULTS = [
    Fault("work-horse", kill_horse),
    Fault("worker-parent", kill_parent),
    Fault("engine-host", kill_host),
    Fault("training", kill_training, allowed_ends=("failed training_killed",)),
    Fault("whole-worker", kill_worker),
    Fault("redis", kill_redis),
    Fault("redis-emptied", flush_redis),
    Fault("web", kill_web),
    Fault("everything", kill_all),
    Fault("reconciler", kill_reconciler),
    Fault("two-reconcilers", second_reconciler),
    Fault("work-horse-frozen", freeze_horse),
    Fault("whole-worker-frozen", freeze_worker),
    Fault("training-frozen", freeze_training, costs_attempts=False),
    Fault("poison-worker", poison_worker, allowed_ends=("failed worker_lost",)),
    Fault("poison-host", poison_host, allowed_ends=("failed host_lost",)),
    Fault("worker-stopped", stop_worker, costs_attempts=False),
    Fault("worker-drained", drain_worker, costs_attempts=False),
    # With SQLite all processes are on one machine, whose clock is the database's.
    Fault("clock-wrong", wrong_clock, databases=("postgresql",), costs_attempts=False),
    Fault("redis-away", redis_away, costs_attempts=False),
    Fault("redis-frozen", freeze_redis, costs_attempts=False),
    Fault("redis-slow", slow_redis, costs_attempts=False),
    Fault("redis-full", fill_redis, costs_attempts=False),
    Fault("redis-read-only", redis_only_reads, costs_attempts=False),
    Fault("double-delivery", deliver_twice, costs_attempts=False),
    Fault("postgresql-frozen", freeze_postgres, databases=("postgresql",)),
    Fault("postgresql-stopped", stop_postgres, databases=("postgresql",)),
    Fault("postgresql-cut", cut_postgres, databases=("postgresql",), costs_attempts=False),
    Fault("sqlite-locked", lock_sqlite, databases=("sqlite",)),
    Fault("crowd-emptied", flush_under_a_crowd, costs_attempts=False, place=places.empty),
    Fault(
        "disk-full",
        fill_disk,
        allowed_ends=("failed disk_full",) * 5,
        costs_attempts=False,
        place=places.small_disk,
    ),
]

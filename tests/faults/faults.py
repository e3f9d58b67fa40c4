"""The faults: what is killed, and what is started again afterwards, as a supervisor would."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.e2e import process_tree
from tests.e2e.platform_processes import Platform
from tests.e2e.waiting import until

Happen = Callable[[Platform, random.Random], str]

AWAY_S = 1.0


@dataclass(frozen=True)
class Fault:
    """happen: does it, and says to whom; allowed_ends: beside `completed`, of all tasks."""

    name: str
    happen: Happen
    allowed_ends: list[str] = field(default_factory=list)


def _one_of(look: Callable[[], list[int]], chance: random.Random, what: str) -> int:
    return chance.choice(until(look, what=what, within_s=40))


def kill_horse(platform: Platform, chance: random.Random) -> str:
    pid = _one_of(platform.tree.horses, chance, "a work-horse")
    process_tree.kill([pid])
    return f"horse {pid}"


def kill_host(platform: Platform, chance: random.Random) -> str:
    pid = _one_of(platform.tree.hosts, chance, "an engine host")
    process_tree.kill([pid])
    return f"host {pid}"


def kill_training(platform: Platform, chance: random.Random) -> str:
    pid = _one_of(platform.tree.trainings, chance, "a training")
    process_tree.kill([pid])
    return f"training {pid}"


def kill_parent(platform: Platform, chance: random.Random) -> str:
    name = chance.choice(platform.workers())
    platform.kill(name)
    platform.start_worker(name)
    return name


def kill_worker(platform: Platform, chance: random.Random) -> str:
    name = chance.choice(platform.workers())
    platform.kill_tree(name)
    platform.start_worker(name)
    return name


def kill_redis(platform: Platform, _: random.Random) -> str:
    platform.kill("redis")
    time.sleep(AWAY_S)
    platform.start_redis()
    return "redis"


def flush_redis(platform: Platform, _: random.Random) -> str:
    with platform.redis() as connection:
        connection.flushall()
    return "redis"


def kill_web(platform: Platform, _: random.Random) -> str:
    platform.kill("web")
    platform.start_web()
    return "web"


def kill_all(platform: Platform, _: random.Random) -> str:
    names = list(platform.processes)
    platform.kill_tree(*names)
    platform.start(workers=len(platform.workers()))
    return ", ".join(names)


FAULTS = [
    Fault("work-horse", kill_horse),
    Fault("worker-parent", kill_parent),
    Fault("engine-host", kill_host),
    Fault("training", kill_training, allowed_ends=["failed training_killed"]),
    Fault("whole-worker", kill_worker),
    Fault("redis", kill_redis),
    Fault("redis-emptied", flush_redis),
    Fault("web", kill_web),
    Fault("everything", kill_all),
]

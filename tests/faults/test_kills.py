"""Each part dies, freezes or fills up at a random moment: no task is lost, doubled or untold.

The plain run takes the eight most telling rows; `ROUNDS=1` runs all of them on each database that
they are for, `ROUNDS=20` repeats each; `FAULT_LOG=file` gets one line of JSON a round, and with
`FAULT_RESUME=1` the rounds that stand there count as done; `FAULT_SEED` makes the moments the
same again.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e import checks, databases, market, workflows
from tests.e2e.client import Subscriber
from tests.e2e.platform_processes import Platform, running
from tests.e2e.waiting import until

from . import tally
from .faults import FAULTS, Fault, Scene

ROUNDS = int(os.environ.get("ROUNDS", "1"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(10**6)
TASKS = 3
WORKERS = 2
FINAL_WITHIN_S = float(os.environ.get("FINAL_WITHIN_S", "120"))
LATEST_S = 8.0
"""The fault comes at a random moment of so many seconds after the submissions."""

PLAIN_RUN = {
    "sqlite": {"work-horse-frozen", "redis-away", "disk-full", "poison-worker"},
    "postgresql": {"everything", "whole-worker", "double-delivery", "postgresql-stopped"},
}

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(240 + 300 * ROUNDS),
]


@dataclass(frozen=True)
class Ground:
    """Where the faults happen: one platform for all faults on a database that need no other."""

    database: str
    platform: Platform
    market: workflows.Market


@pytest.fixture(scope="module", params=DATABASES)
def ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    datasets = tmp_path_factory.mktemp("datasets")
    with (
        databases.fresh(request.param) as url,
        running(database_url=url, datasets_dir=datasets) as platform,
    ):
        yield Ground(request.param, platform, market.import_into(platform))


@contextmanager
def _ground_for(fault: Fault, ground: Ground) -> Iterator[Ground]:
    """The usual one, unless the fault needs a platform on a place of its own."""
    if fault.place is None:
        yield ground
        return
    with (
        databases.fresh(ground.database) as url,
        running(database_url=url, datasets_dir=ground.platform.datasets_dir) as platform,
        fault.place(platform),
    ):
        yield Ground(ground.database, platform, market.import_into(platform))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_task_ends_once_and_is_told_once_when_this_is_killed(ground: Ground, fault: Fault):
    if ground.database not in fault.databases:
        pytest.skip(f"happens to {' and '.join(fault.databases)} only")
    if "ROUNDS" not in os.environ and fault.name not in PLAIN_RUN[ground.database]:
        pytest.skip("set ROUNDS to run every fault on both databases")
    numbers = range(_rounds_done(fault.name, ground.database), ROUNDS)
    if not numbers:
        pytest.skip(f"{ROUNDS} of {ROUNDS} rounds are done")
    found: list[str] = []
    with _ground_for(fault, ground) as here:
        for number in numbers:
            here.platform.start(workers=WORKERS)
            found += _round(here, fault, number)
        words = here.platform.last_words()

    assert not found, "\n".join([f"FAULT_SEED={SEED}", *found, words])


def _rounds_done(fault: str, database: str) -> int:
    """What the log has, where it is to be gone on with."""
    log = os.environ.get("FAULT_LOG")
    if not log or "FAULT_RESUME" not in os.environ:
        return 0
    return tally.count([Path(log)])[fault, database]


@dataclass
class Tasks:
    """The tasks of a round, each with a subscriber from its first event on."""

    platform: Platform
    text: str
    subscribers: dict[str, Subscriber] = field(default_factory=dict)

    def submit(self, *, key: str = "") -> str:
        """One more; with a key, until it is answered."""
        client = self.platform.client
        whole = f"{key}-{time.time_ns()}"
        task_id = client.insist(self.text, key=whole) if key else client.submit(self.text)
        self.subscribers[task_id] = Subscriber(client, task_id)
        return task_id


def _round(ground: Ground, fault: Fault, number: int) -> list[str]:
    """One round; what was wrong in it."""
    chance = random.Random(f"{SEED} {fault.name} {number}")  # noqa: S311
    begun = time.monotonic()
    platform = ground.platform
    # A worker that is away for a while is no reason to refuse.
    sizes = {"instruments": 4, "test_days": 40, "rounds": 5}
    text = workflows.small(ground.market, **sizes, when_no_worker="wait")
    tasks = Tasks(platform, text)
    scene = Scene(platform, chance, tasks.submit)
    for _ in range(TASKS):
        tasks.submit()
    moment_s = chance.uniform(0, LATEST_S)
    _wait(moment_s, tasks.subscribers.values())
    what, ended, found = "", [], []
    try:
        what = fault.happen(scene)
        ended = _ends_of(tasks)
        found = _judge(platform, fault, ended, tasks.subscribers)
        platform.manage("audit")
    except (AssertionError, requests.RequestException) as error:
        found = [str(error)]
    finally:
        for undo in scene.afterwards:
            undo()
        for subscriber in tasks.subscribers.values():
            subscriber.leave()
    told = {
        "fault": fault.name,
        "database": platform.database,
        "round": number,
        "moment_s": round(moment_s, 2),
        "what": what,
        "seconds": round(time.monotonic() - begun, 1),
        "ends": [_summary(task) for task in ended],
        "violations": found,
    }
    _log(told)
    return [json.dumps(told)] if found else []


def _wait(moment_s: float, subscribers: Iterable[Subscriber]) -> None:
    """Until the moment, or until only one task is left: later there might be nothing to kill."""
    heard = list(subscribers)
    deadline = time.monotonic() + moment_s
    while time.monotonic() < deadline and sum(one.has_ended() for one in heard) < len(heard) - 1:
        time.sleep(0.02)


def _ends_of(tasks: Tasks) -> list[dict[str, Any]]:
    """All tasks, once they are final. Raises: AssertionError."""
    deadline = time.monotonic() + FINAL_WITHIN_S
    return [
        tasks.platform.client.final(task_id, within_s=max(deadline - time.monotonic(), 1))
        for task_id in tasks.subscribers
    ]


def _judge(
    platform: Platform,
    fault: Fault,
    tasks: list[dict[str, Any]],
    subscribers: dict[str, Subscriber],
) -> list[str]:
    """All that is wrong after the round, once everything had its time to be told."""
    found = []
    for task in tasks:
        heard = subscribers[task["id"]]
        heard.wait_for_end(within_s=20)
        found += checks.faults_of(
            platform.client, task, heard=heard, artifacts_dir=platform.state_dir / "artifacts"
        )
        if not fault.costs_attempts:
            found += _losses(platform, task)
    ends = Counter(_end_of(task) for task in tasks if task["status"] != "completed")
    if not ends <= Counter(fault.allowed_ends):
        found.append(f"not completed: {dict(ends)}; this fault allows {fault.allowed_ends}")
    try:
        until(lambda: not platform.tree.orphans(), what="the end of all trainings", within_s=10)
    except AssertionError:
        found.append(f"left over: {platform.tree.orphans()}")
    return found


def _losses(platform: Platform, task: dict[str, Any]) -> list[str]:
    """Attempts that were taken for lost, where none was."""
    reasons = [
        event["data"]["reason"]
        for event in platform.client.events(task["id"])
        if event["type"] == "requeued" and event["data"]["reason"] != "shutdown"
    ]
    return [f"{task['id']}: requeued for {reasons}"] if reasons else []


def _end_of(task: dict[str, Any]) -> str:
    return f"{task['status']} {task['error_code']}".strip()


def _summary(task: dict[str, Any]) -> str:
    return f"{_end_of(task)}, attempt {task['attempt']}, {task['last_seq']} events"


def _log(told: dict[str, Any]) -> None:
    if path := os.environ.get("FAULT_LOG"):
        with Path(path).open("a") as file:
            file.write(json.dumps(told) + "\n")

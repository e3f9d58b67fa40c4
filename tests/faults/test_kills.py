"""`kill -9` of each part at a random moment: no task is lost, doubled or untold.

Of the nine faults on two databases the plain run takes one half each; `ROUNDS=1` runs all of them,
`ROUNDS=20` repeats each; `FAULT_LOG=file` gets one line of JSON a round; `FAULT_SEED`
makes the moments the same again.
"""

import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import checks, databases, market, workflows
from tests.e2e.client import Subscriber
from tests.e2e.platform_processes import Platform, running
from tests.e2e.waiting import until

from .faults import FAULTS, Fault

ROUNDS = int(os.environ.get("ROUNDS", "1"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(10**6)
TASKS = 3
WORKERS = 2
FINAL_WITHIN_S = float(os.environ.get("FINAL_WITHIN_S", "120"))
LATEST_S = 8.0
"""The fault comes at a random moment of so many seconds after the submissions."""

PLAIN_RUN = {
    "sqlite": {"work-horse", "whole-worker", "redis", "everything"},
    "postgresql": {"worker-parent", "engine-host", "redis-emptied", "web"},
}

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(120 + 200 * ROUNDS),
]


@dataclass(frozen=True)
class Ground:
    """Where the faults happen: one platform for all faults on a database."""

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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_task_ends_once_and_is_told_once_when_this_is_killed(ground: Ground, fault: Fault):
    if "ROUNDS" not in os.environ and fault.name not in PLAIN_RUN[ground.database]:
        pytest.skip("set ROUNDS to run every fault on both databases")
    found: list[str] = []
    for number in range(ROUNDS):
        ground.platform.start(workers=WORKERS)
        found += _round(ground, fault, number)

    assert not found, "\n".join([f"FAULT_SEED={SEED}", *found, ground.platform.last_words()])


def _round(ground: Ground, fault: Fault, number: int) -> list[str]:
    """One round; what was wrong in it."""
    chance = random.Random(f"{SEED} {fault.name} {number}")  # noqa: S311
    begun = time.monotonic()
    platform, client = ground.platform, ground.platform.client
    text = workflows.small(ground.market, instruments=4, test_days=40, rounds=5)
    ids = [client.submit(text) for _ in range(TASKS)]
    subscribers = {task_id: Subscriber(client, task_id) for task_id in ids}
    moment_s = chance.uniform(0, LATEST_S)
    _wait(moment_s, subscribers.values())
    what = fault.happen(platform, chance)
    tasks, found = [], []
    try:
        deadline = time.monotonic() + FINAL_WITHIN_S
        tasks = [
            client.final(task_id, within_s=max(deadline - time.monotonic(), 1)) for task_id in ids
        ]
        found = _judge(platform, fault, tasks, subscribers)
        platform.manage("audit")
    except AssertionError as error:
        found = [str(error)]
    finally:
        for subscriber in subscribers.values():
            subscriber.leave()
    told = {
        "fault": fault.name,
        "database": platform.database,
        "round": number,
        "moment_s": round(moment_s, 2),
        "what": what,
        "seconds": round(time.monotonic() - begun, 1),
        "ends": [_summary(task) for task in tasks],
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
    ends = sorted(_end_of(task) for task in tasks if task["status"] != "completed")
    if ends not in (fault.allowed_ends, []):
        found.append(f"not completed: {ends}; this fault allows {fault.allowed_ends}")
    try:
        until(lambda: not platform.tree.orphans(), what="the end of all trainings", within_s=10)
    except AssertionError:
        found.append(f"left over: {platform.tree.orphans()}")
    return found


def _end_of(task: dict[str, Any]) -> str:
    return f"{task['status']} {task['error_code']}".strip()


def _summary(task: dict[str, Any]) -> str:
    return f"{_end_of(task)}, attempt {task['attempt']}, {task['last_seq']} events"


def _log(told: dict[str, Any]) -> None:
    if path := os.environ.get("FAULT_LOG"):
        with Path(path).open("a") as file:
            file.write(json.dumps(told) + "\n")

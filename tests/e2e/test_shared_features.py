"""Shared features with real trainings: two that want the same, and every fault of the store.

Right numbers means: the predictions are, byte for byte, those of a platform that shares nothing.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import market, process_tree, workflows
from .client import Client
from .conftest import Ground
from .platform_processes import Platform, running
from .waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(600)]

WITHIN_S = 240
COLUMNS = 159
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: root")

UNUSED = iter(range(20, 50))
"""Numbers of instruments that no task has loaded: their features are in no store."""

Result = tuple[dict[str, Any], bytes]


@pytest.fixture
def client(platform: Platform) -> Client:
    return platform.client


@pytest.fixture
def store(platform: Platform) -> Path:
    """The store, without a file. Rows may be left: then the files are found missing."""
    folder = platform.state_dir / "features"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@pytest.fixture
def workflow(ground: Ground) -> str:
    return workflows.small(ground.market, instruments=8)


@pytest.fixture(scope="module")
def right(ground: Ground) -> bytes:
    """What `workflow` predicts on a platform that shares nothing."""
    datasets = ground.platform.datasets_dir
    with running(database_url=None, datasets_dir=datasets, FEATURES_MAX_BYTES=0) as plain:
        market.import_into(plain)
        plain.start(workers=1)
        text = workflows.small(ground.market, instruments=8)
        task = completed(plain.client, plain.client.submit(text))
        assert "features" not in task["result"]
        assert not any((plain.state_dir / "features").glob("*/*"))
        return plain.client.download(task["id"], "predictions.parquet")


def completed(client: Client, task_id: str) -> dict[str, Any]:
    task = client.final(task_id, within_s=WITHIN_S)
    assert task["status"] == "completed", (task["error"], client.log(task_id)[-3000:])
    assert task["result"]["versions"]["evaluator"].startswith("platform")
    return task


def result_of(client: Client, task_id: str) -> Result:
    """What the store did for the task, and what it predicts."""
    task = completed(client, task_id)
    return task["result"]["features"], client.download(task_id, "predictions.parquet")


def files(store: Path) -> list[Path]:
    return sorted(store.glob("??/*.npy"))


# ── Faults of the store ─────────────────────────────────────────────────────────────────


def test_the_second_task_finds_what_the_first_has_made(
    client: Client, store: Path, workflow: str, right: bytes
):
    made, first = result_of(client, client.submit(workflow))
    found, second = result_of(client, client.submit(workflow))

    assert first == second == right
    assert (made["misses"], made["bytes_written"] > 0) == (COLUMNS, True)
    assert (found["hits"], found["misses"], found["damaged"]) == (COLUMNS, 0, 0)
    assert found["bytes_read"] == sum(path.stat().st_size for path in files(store))
    assert client.read("/api/features").json()["columns"] >= COLUMNS


def test_a_store_full_of_garbage_gives_right_numbers_and_is_made_anew(
    client: Client, store: Path, workflow: str, right: bytes
):
    result_of(client, client.submit(workflow))
    for path in files(store):
        path.write_bytes(os.urandom(path.stat().st_size))

    mended, second = result_of(client, client.submit(workflow))
    found, third = result_of(client, client.submit(workflow))

    assert second == third == right
    assert (mended["damaged"], mended["misses"]) == (COLUMNS, COLUMNS)
    assert (found["hits"], found["damaged"]) == (COLUMNS, 0)


@contextmanager
def mounted(store: Path, options: str) -> Iterator[None]:
    """Another file system in the store's place."""
    store.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(store)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(store)], check=True)


@ROOT_ONLY
@pytest.mark.parametrize(
    ("options", "said"), [("size=400k", "No space left"), ("ro", "Read-only file system")]
)
def test_a_store_that_is_full_or_read_only_costs_only_the_sharing(
    client: Client, store: Path, workflow: str, right: bytes, options: str, said: str
):
    with mounted(store, options):
        task_id = client.submit(workflow)
        told, predicted = result_of(client, task_id)

    assert predicted == right
    assert told["hits"] == 0
    assert said in client.log(task_id)
    assert client.read("/api/features").json()["making"] == 0


def test_a_store_deleted_under_a_running_task_changes_nothing(
    client: Client, store: Path, workflow: str, right: bytes
):
    result_of(client, client.submit(workflow))
    task_id = client.submit(workflow)
    until(lambda: client.task(task_id)["stage"] == "fit", what="the fit", within_s=WITHIN_S)

    shutil.rmtree(store)
    was_running = client.task(task_id)["status"] == "running"
    _, second = result_of(client, task_id)
    anew, third = result_of(client, client.submit(workflow))

    assert was_running
    assert second == third == right
    assert anew["misses"] == COLUMNS


def test_a_leader_killed_while_it_writes_leaves_nothing_that_anybody_reads(
    platform: Platform, client: Client, store: Path, workflow: str, right: bytes
):
    task_id = client.submit(workflow)
    until(lambda: list(store.glob("??/*")), what="a first file", within_s=WITHIN_S, every_s=0.001)
    process_tree.kill(platform.tree.horses())
    left = making(platform)

    _, first = result_of(client, task_id)
    found, second = result_of(client, client.submit(workflow))

    assert left > 0, "the leader had written all before it was killed"
    assert client.task(task_id)["attempt"] == 2
    assert first == second == right
    assert (found["hits"], found["misses"], found["damaged"]) == (COLUMNS, 0, 0)


# ── Two that want the same ──────────────────────────────────────────────────────────────


def making(platform: Platform) -> int:
    """Columns that somebody is making."""
    with closing(sqlite3.connect(platform.state_dir / "db.sqlite3", timeout=10)) as database:
        query = "SELECT count(*) FROM training_featurecolumn WHERE state = 'making'"
        return int(database.execute(query).fetchone()[0])


@pytest.fixture
def stopped_maker(
    ground: Ground, platform: Platform, client: Client
) -> Iterator[Callable[[], tuple[str, str, int]]]:
    """Starts two workers and a task, and stops its training while it makes features.

    Gives the workflow, the task and the training's pid. Goes on at the end of the test.
    """
    stopped: list[int] = []

    def begin() -> tuple[str, str, int]:
        platform.start(workers=2)
        # A training that was too quick is let go on, and features tried that nobody has made yet.
        for instruments in UNUSED:
            text = workflows.small(ground.market, instruments=instruments)
            task_id = client.submit(text)
            until(lambda: making(platform), what="claims", within_s=WITHIN_S, every_s=0.001)
            (pid,) = platform.tree.trainings()
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
            # If it had handed them over already, its leader goes on without it.
            time.sleep(3)
            if making(platform) == COLUMNS:
                return text, task_id, pid
            os.kill(stopped.pop(), signal.SIGCONT)
            client.final(task_id, within_s=WITHIN_S)
        raise AssertionError("no training was stopped in time")

    yield begin
    for pid in stopped:
        if pid in platform.tree.trainings():
            os.kill(pid, signal.SIGCONT)


def wait_for_waiting(client: Client, task_id: str) -> dict[str, Any]:
    def look() -> list[dict[str, Any]]:
        stages = [one for one in client.events(task_id) if one["type"] == "stage"]
        return [one for one in stages if "Waiting" in one["message"]]

    return dict(until(look, what="the stage message", within_s=WITHIN_S)[0])


def test_of_two_workers_one_makes_and_the_other_says_for_whom_it_waits(
    client: Client, stopped_maker: Callable[[], tuple[str, str, int]]
):
    text, first_id, pid = stopped_maker()
    second_id = client.submit(text)
    told = wait_for_waiting(client, second_id)
    os.kill(pid, signal.SIGCONT)

    made, first = result_of(client, first_id)
    found, second = result_of(client, second_id)

    assert told["message"] == f"Waiting for the same features of {first_id}"
    assert told["stage"] == "data"
    assert first == second
    assert made["misses"] == COLUMNS
    assert (found["hits"], found["misses"]) == (COLUMNS, 0)
    assert found["waited_for"] == [first_id]


def test_a_waiting_task_is_cancelled_within_seconds(
    client: Client, stopped_maker: Callable[[], tuple[str, str, int]]
):
    text, first_id, pid = stopped_maker()
    second_id = client.submit(text)
    wait_for_waiting(client, second_id)

    client.act(second_id, "cancel")
    task = client.final(second_id, within_s=30)
    os.kill(pid, signal.SIGCONT)

    assert task["status"] == "cancelled"
    completed(client, first_id)


def test_a_waiting_task_takes_over_when_the_maker_and_its_leader_are_killed(
    platform: Platform, client: Client, stopped_maker: Callable[[], tuple[str, str, int]]
):
    text, first_id, _ = stopped_maker()
    (leader,) = platform.tree.horses()
    second_id = client.submit(text)
    wait_for_waiting(client, second_id)

    process_tree.kill([leader])
    found, second = result_of(client, second_id)
    _, first = result_of(client, first_id)

    assert found["misses"] == COLUMNS
    assert found["waited_for"] == [first_id]
    assert client.task(first_id)["attempt"] == 2
    assert first == second

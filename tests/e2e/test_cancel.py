"""Cancelling: at once while pending, within two seconds while running, whatever the stage."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from . import market, process_tree, workflows
from .client import Subscriber
from .conftest import Ground
from .platform_processes import Platform, running
from .waiting import until

ROUNDS = int(os.environ.get("ROUNDS", "1"))
WITHIN_S = 2.0

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.qlib,
    pytest.mark.redis,
    pytest.mark.timeout(300 + 90 * ROUNDS),
]

Watch = Callable[[str], Subscriber]
FaultsOf = Callable[[dict[str, Any], Subscriber], list[str]]

LONG_IN: dict[str, dict[str, int]] = {
    "data": {"instruments": 50, "fit_days": 1_400},
    "fit": {"instruments": 4, "rounds": 100_000},
    "backtest": {"instruments": 6, "rounds": 5, "fit_days": 200, "test_days": 1_500},
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A platform whose features Qlib computes: by ours they are there before one could cancel."""
    datasets = tmp_path_factory.mktemp("datasets")
    with running(database_url=None, datasets_dir=datasets, EVALUATOR="qlib") as platform:
        yield Ground(platform, market.import_into(platform))


def test_a_pending_task_is_cancelled_at_once_and_never_starts(
    ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    client = platform.client
    busy = client.submit(workflows.small(ground.market, **LONG_IN["fit"]))
    watch(busy).wait_for("started", within_s=120)
    waiting = client.submit(workflows.small(ground.market))
    heard = watch(waiting)

    answer = client.act(waiting, "cancel")

    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert client.act(waiting, "cancel").json()["error"]["code"] == "already_finished"
    client.act(busy, "cancel")
    client.final(busy)
    assert faults_of(client.task(waiting), heard) == []
    assert heard.types() == ["created", "cancelled"]


@pytest.mark.parametrize("stage", list(LONG_IN))
def test_a_running_task_is_gone_two_seconds_after_the_cancel(
    stage: str, ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    took_s = []
    for _ in range(ROUNDS):
        task_id = platform.client.submit(workflows.small(ground.market, **LONG_IN[stage]))
        heard = watch(task_id)
        heard.wait_for("stage", stage=stage, within_s=120)
        heard.wait_for("progress", stage=stage, within_s=60)
        took_s.append(_cancel(platform, task_id))
        task = platform.client.final(task_id)
        assert (task["status"], task["stage"]) == ("cancelled", stage)
        assert faults_of(task, heard) == []
    _log(stage, took_s)

    assert max(took_s) <= WITHIN_S


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_an_attempt_whose_host_starts_nothing_ends_as_told(
    end: str, ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    (host,) = platform.tree.hosts()
    os.kill(host, signal.SIGSTOP)
    try:
        task_id = platform.client.submit(workflows.small(ground.market))
        heard = watch(task_id)
        heard.wait_for("started", within_s=60)
        if end == "cancel":
            assert platform.client.act(task_id, "cancel").status_code == 202
            heard.wait_for("cancelled", within_s=WITHIN_S)
        else:
            platform.terminate("worker-1")
            heard.wait_for("requeued", within_s=1)
    finally:
        with suppress(ProcessLookupError):
            os.kill(host, signal.SIGCONT)
    platform.start(workers=1)
    task = platform.client.final(task_id, within_s=120)

    events = platform.client.events(task_id)
    assert faults_of(task, heard) == []
    assert task["status"] == ("cancelled" if end == "cancel" else "completed")
    assert {one["data"]["reason"] for one in events if one["type"] == "requeued"} <= {"shutdown"}


def _cancel(platform: Platform, task_id: str) -> float:
    """Seconds from the request to the end of the last process of the training."""
    groups = platform.tree.trainings()
    assert len(groups) == 1

    begun = time.monotonic()
    assert platform.client.act(task_id, "cancel").status_code == 202
    until(lambda: not process_tree.members(groups[0]), what="the end of the training")
    return time.monotonic() - begun


def _log(stage: str, took_s: list[float]) -> None:
    if path := os.environ.get("FAULT_LOG"):
        told = {"cancel": stage, "seconds": [round(one, 3) for one in took_s]}
        with Path(path).open("a") as file:
            file.write(json.dumps(told) + "\n")

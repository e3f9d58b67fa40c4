"""Ends that nobody asked for: too much memory, too much time, a worker that stops in order."""

from collections.abc import Callable
from typing import Any

import pytest

from . import process_tree, workflows
from .client import Subscriber
from .conftest import Ground
from .platform_processes import Platform
from .waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(400)]

Watch = Callable[[str], Subscriber]
FaultsOf = Callable[[dict[str, Any], Subscriber], list[str]]

LITTLE_BYTES = 120_000_000
"""Less than a training needs for its first features."""


def test_a_worker_stopped_in_order_gives_its_task_to_another(
    ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    task_id = platform.client.submit(workflows.small(ground.market, instruments=12))
    heard = watch(task_id)
    heard.wait_for("stage", stage="data", within_s=120)
    groups = platform.tree.trainings()

    code = platform.terminate("worker-1")
    left = [pid for group in groups for pid in process_tree.members(group)]
    platform.start_worker("worker-2")
    task = platform.client.final(task_id, within_s=120)
    platform.terminate("worker-2")

    assert code == 0
    assert (len(groups), left) == (1, [])
    requeued = heard.wait_for("requeued")
    assert requeued["data"]["reason"] == "shutdown"
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert task["worker"].startswith("worker-2")
    assert faults_of(task, heard) == []


def test_a_shutdown_uses_up_no_attempt(ground: Ground, platform: Platform, watch: Watch):
    text = workflows.small(ground.market, instruments=4, max_attempts=1)
    task_id = platform.client.submit(text)
    watch(task_id).wait_for("stage", stage="data", within_s=120)

    platform.terminate("worker-1")
    platform.start_worker("worker-1")
    task = platform.client.final(task_id, within_s=120)

    assert (task["status"], task["attempt"]) == ("completed", 2)


def test_too_much_memory_fails_with_the_peak_and_the_worker_goes_on(
    ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    platform.terminate("worker-1")
    platform.settings["TRAINING_MEMORY_BYTES"] = LITTLE_BYTES
    platform.start_worker("worker-1")
    worker = platform.processes["worker-1"].pid
    # Runs before have shown what it takes: who does not wait would be refused.
    text = workflows.small(ground.market, when_no_worker="wait")
    try:
        task_id = platform.client.submit(text)
        heard = watch(task_id)
        task = platform.client.final(task_id, within_s=120)
        second = platform.client.submit(text)
        again = platform.client.final(second, within_s=120)
    finally:
        del platform.settings["TRAINING_MEMORY_BYTES"]
        platform.terminate("worker-1")

    assert (task["status"], task["error_code"]) == ("failed", "out_of_memory")
    assert "120 MB" in task["error"]
    assert faults_of(task, heard) == []
    assert again["error_code"] == "out_of_memory"
    assert platform.processes["worker-1"].pid == worker


def test_too_much_time_fails_and_leaves_no_process(
    ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    text = workflows.small(ground.market, instruments=4, rounds=100_000, timeout_s=1)
    task_id = platform.client.submit(text)
    heard = watch(task_id)
    task = platform.client.final(task_id, within_s=120)

    assert (task["status"], task["error_code"]) == ("failed", "timed_out")
    assert faults_of(task, heard) == []
    until(lambda: not platform.tree.orphans(), what="the end of the training", within_s=5)


def test_a_killed_engine_host_costs_one_attempt_even_with_one_worker(
    ground: Ground, platform: Platform, watch: Watch, faults_of: FaultsOf
):
    task_id = platform.client.submit(workflows.small(ground.market, instruments=4))
    heard = watch(task_id)
    heard.wait_for("stage", stage="data", within_s=120)

    process_tree.kill(platform.tree.hosts())
    # A ring at once: the same worker takes the task before its next heart beat.
    platform.client.submit(workflows.small(ground.market, instruments=4, rounds=5))
    task = platform.client.final(task_id, within_s=120)

    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert heard.wait_for("requeued")["data"]["reason"] == "host_lost"
    assert faults_of(task, heard) == []

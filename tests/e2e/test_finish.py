"""Finishing early, asked when it is awkward: while data load, after a loss, after a restore."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import market, process_tree, workflows
from .client import Client, Subscriber
from .conftest import Ground
from .platform_processes import Platform, running
from .waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(600)]

Watch = Callable[[str], Subscriber]
ENDLESS = 100_000


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A platform whose features Qlib computes: by ours they are there before one could ask."""
    datasets = tmp_path_factory.mktemp("datasets")
    with running(database_url=None, datasets_dir=datasets, EVALUATOR="qlib") as platform:
        yield Ground(platform, market.import_into(platform))


def test_a_wish_from_the_data_stage_ends_the_fit_after_its_first_round(
    ground: Ground, platform: Platform, watch: Watch
):
    workflow = workflows.small(ground.market, instruments=15, rounds=ENDLESS)
    task_id = platform.client.submit(workflow)
    watch(task_id).wait_for("progress", stage="data", within_s=120)

    answer = platform.client.act(task_id, "finish")

    assert (answer.status_code, answer.json()["stage"]) == (202, "data")
    assert rounds_of(platform.client, task_id) == 1


def test_the_attempt_after_a_lost_one_runs_on_until_it_is_asked_itself(
    ground: Ground, platform: Platform, watch: Watch
):
    client = platform.client
    workflow = workflows.small(ground.market, instruments=15, rounds=ENDLESS)
    task_id = client.submit(workflow)
    heard = watch(task_id)
    heard.wait_for("progress", stage="data", within_s=120)
    assert client.act(task_id, "finish").status_code == 202

    process_tree.kill(platform.tree.horses())
    heard.wait_for("requeued", within_s=60)
    until(lambda: fits(client, task_id, attempt=2), what="the second attempt's fit", within_s=120)
    assert client.task(task_id)["finish_requested_at"] is None
    answer = client.act(task_id, "finish")

    assert answer.status_code == 202
    assert rounds_of(client, task_id) >= 1
    assert client.task(task_id)["attempt"] == 2


@pytest.mark.parametrize("stage", ["data", "fit"])
def test_a_task_that_ran_when_the_backup_was_made_is_finished_early_elsewhere(
    stage: str, ground: Ground, platform: Platform, watch: Watch, tmp_path: Path
):
    workflow = workflows.small(ground.market, instruments=15, rounds=ENDLESS)
    task_id = platform.client.submit(workflow)
    watch(task_id).wait_for("progress", stage="fit", within_s=120)
    platform.manage("backup", str(tmp_path / "backups"))
    backup = next((tmp_path / "backups").glob("2*Z"))
    platform.client.act(task_id, "cancel")
    platform.client.final(task_id)

    with running(database_url=None, datasets_dir=tmp_path / "datasets", EVALUATOR="qlib") as other:
        assert "1 that ran are pending again" in other.manage("restore", str(backup), "--replace")
        other.token = platform.token
        other.start()
        until(
            lambda: is_at(other.client.task(task_id), stage, attempt=2),
            what=f"stage {stage} elsewhere\n{other.last_words()}",
            within_s=120,
        )
        answer = other.client.act(task_id, "finish")

        assert answer.status_code == 202
        assert rounds_of(other.client, task_id) >= 1
        assert "every invariant holds" in other.manage("audit")


def rounds_of(client: Client, task_id: str) -> int:
    """How many rounds the completed fit had; fails if it was not ended early."""
    task = client.final(task_id, within_s=120)
    assert task["status"] == "completed", task["error"]
    told = client.read(f"/api/tasks/{task_id}/metrics?points=100").json()["results"]
    rounds = max(point["step"] for point in told if point["name"].startswith("train."))
    assert rounds < ENDLESS
    return int(rounds)


def fits(client: Client, task_id: str, *, attempt: int) -> bool:
    return is_at(client.task(task_id), "fit", attempt=attempt)


def is_at(task: dict[str, Any], stage: str, *, attempt: int) -> bool:
    return (task["status"], task["stage"], task["attempt"]) == ("running", stage, attempt)

"""The main path as a user's program sees it: a workflow in, a real training, its end."""

from collections.abc import Callable
from typing import Any

import pytest

from . import workflows
from .client import Client, Subscriber, sha256
from .conftest import Ground
from .platform_processes import Platform
from .waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(400)]

Watch = Callable[[str], Subscriber]
FaultsOf = Callable[[dict[str, Any], Subscriber], list[str]]


@pytest.fixture
def client(platform: Platform) -> Client:
    return platform.client


def endless_fit(ground: Ground, **changes: Any) -> str:
    """A fit of many minutes."""
    return workflows.small(ground.market, instruments=4, rounds=100_000, **changes)


def test_a_posted_workflow_is_trained_watched_and_kept(
    ground: Ground, client: Client, watch: Watch, faults_of: FaultsOf
):
    task_id = client.submit(workflows.small(ground.market))
    heard = watch(task_id)
    heard.wait_for("stage", stage="fit", within_s=120)
    log_during = client.log(task_id)
    task = client.final(task_id, within_s=120)

    assert task["status"] == "completed", task["error"]
    assert faults_of(task, heard) == []
    stages = [one["data"]["stage"] for one in heard.heard if one["type"] == "stage"]
    assert stages == ["data", "fit", "predict", "evaluate", "backtest", "save"]
    expected = {"ic", "icir", "rank_ic", "annualized_return", "information_ratio", "turnover"}
    assert expected <= task["result"]["metrics"].keys()
    log = client.log(task_id)
    assert "stage data" in log_during
    assert log.startswith(log_during)
    assert "completed" in log.splitlines()[-1]


def test_a_real_report_its_predictions_and_positions_can_be_looked_through(
    ground: Ground, client: Client
):
    task_id = client.submit(workflows.small(ground.market))
    task = client.final(task_id, within_s=120)
    assert task["status"] == "completed", task["error"]

    report = client.read(f"/api/tasks/{task_id}/report?points=50").json()
    day = report["portfolio"]["days"][-1]
    scores = client.read(f"/api/tasks/{task_id}/predictions?date={day}").json()["results"]
    held = client.read(f"/api/tasks/{task_id}/positions?date={day}").json()

    assert len(report["portfolio"]["days"]) <= 50
    lowest = min(report["portfolio"]["drawdown_with_cost"])
    assert lowest >= task["result"]["metrics"]["max_drawdown"] - 1e-9
    assert [one["rank"] for one in scores] == list(range(1, len(scores) + 1))
    assert [one["score"] for one in scores] == sorted((o["score"] for o in scores), reverse=True)
    assert len(held["results"]) == report["holdings"]["count"][-1]
    weights = sum(one["weight"] for one in held["results"])
    assert weights + held["account"]["cash"] / held["account"]["value"] == pytest.approx(
        1, abs=0.02
    )


def test_artifacts_and_curves_can_be_downloaded_as_the_manifest_says(
    ground: Ground, client: Client
):
    task_id = client.submit(workflows.small(ground.market, instruments=4, rounds=7))
    assert client.final(task_id, within_s=120)["status"] == "completed"

    listed = client.read(f"/api/tasks/{task_id}/artifacts").json()["results"]
    curves = client.read(f"/api/tasks/{task_id}/metrics").json()["results"]

    names = {one["path"] for one in listed}
    assert {"log.txt", "curves.json"} < names
    for one in listed:
        data = client.download(task_id, one["path"])
        assert (len(data), sha256(data)) == (one["bytes"], one["sha256"]), one["path"]
    steps = {point["name"]: set() for point in curves}
    for point in curves:
        steps[point["name"]].add(point["step"])
    assert 7 in {len(of_one) for of_one in steps.values()}, steps


def test_a_retry_is_a_new_task_with_the_same_result(ground: Ground, client: Client):
    old_id = client.submit(workflows.small(ground.market, instruments=4, rounds=5))
    old = client.final(old_id, within_s=120)

    answer = client.act(old_id, "retry")
    new = client.final(answer.json()["task_id"], within_s=120)

    assert answer.status_code == 201
    assert (new["id"] != old_id, new["retry_of"], new["config"]) == (True, old_id, old["config"])
    assert new["status"] == "completed"
    assert new["result"]["metrics"] == old["result"]["metrics"]

    def correlation() -> dict[str, Any] | None:
        told = client.read(f"/api/compare?task={old_id}&task={new['id']}").json()["correlation"]
        return None if told["state"] == "waiting" else dict(told)

    alike = until(correlation, what="the worker's correlation", within_s=60)
    assert alike["error"] == ""
    assert alike["rank"] == alike["pearson"] == [[1.0, pytest.approx(1)], [pytest.approx(1), 1.0]]


def test_a_finished_fit_keeps_the_best_and_goes_on_with_the_records(
    ground: Ground, client: Client, watch: Watch, faults_of: FaultsOf
):
    task_id = client.submit(endless_fit(ground))
    heard = watch(task_id)
    heard.wait_for("metric", within_s=120)

    answer = client.act(task_id, "finish")
    task = client.final(task_id, within_s=120)

    assert answer.status_code == 202
    assert (task["status"], task["error"]) == ("completed", "")
    assert "finish_requested" in heard.types()
    assert "ic" in task["result"]["metrics"]
    assert faults_of(task, heard) == []


def test_a_deleted_task_says_so_last_and_its_files_go(
    ground: Ground, platform: Platform, client: Client, watch: Watch
):
    task_id = client.submit(workflows.small(ground.market, instruments=4, rounds=5))
    heard = watch(task_id)
    heard.wait_for_end(within_s=120)
    folder = platform.state_dir / "artifacts" / task_id
    assert folder.is_dir()

    answer = client.call("DELETE", f"/api/tasks/{task_id}")
    heard.wait_for("deleted")

    assert answer.status_code == 204
    assert heard.types()[-1] == "deleted"
    assert heard.faults == []
    assert client.call("GET", f"/api/tasks/{task_id}").status_code == 404
    until(lambda: not folder.exists(), what="the end of the files")

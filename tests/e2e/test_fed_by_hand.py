"""Rows and rings that somebody has written past the API: the worker trusts neither."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from tests.hostile import Bait, Way, ways, with_way

from . import workflows
from .conftest import Ground
from .platform_processes import Platform
from .waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(600)]

FEED = """
import json, pathlib, sys
from django.contrib.auth.models import User
from training import lifecycle
from training.models import Dataset, TrainingTask
owner = User.objects.get()
for fed in json.loads(pathlib.Path({path!r}).read_text()):
    row = dict(dataset={dataset!r}, model="LGBModel", posted="", queue="cpu", max_attempts=1)
    row["dataset_version"] = Dataset.objects.get(name={dataset!r}).version
    print("fed", lifecycle.create(TrainingTask(owner=owner, **(row | fed))).id)
"""


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[Bait]:
    bait = Bait(tmp_path / "bait")
    assert bait.works()
    yield bait
    assert not bait.touched.exists()


def feed(ground: Ground, rows: list[dict[str, Any]], tmp_path: Path) -> list[str]:
    """Write the rows past the API; the ids of the tasks."""
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    code = FEED.format(path=str(file), dataset=ground.market.name)
    lines = ground.platform.manage("shell", "-c", code).splitlines()
    return [line.split()[1] for line in lines if line.startswith("fed ")]


def canonical(ground: Ground) -> dict[str, Any]:
    """The config of a small workflow as the platform has stored it."""
    client = ground.platform.client
    task_id = client.submit(workflows.small(ground.market, instruments=4, rounds=3, name="base"))
    assert client.final(task_id, within_s=180)["status"] == "completed"
    return dict(client.task(task_id)["config"])


def test_a_worker_refuses_every_way_in_and_touches_nothing(
    ground: Ground, platform: Platform, bait: Bait, tmp_path: Path
):
    base = canonical(ground)
    tried: list[Way] = [way for way in ways(bait) if not way.posted_only]
    ids = feed(ground, [{"config": with_way(base, way)} for way in tried], tmp_path)

    ends = {
        way.name: platform.client.final(task_id, within_s=300)
        for way, task_id in zip(tried, ids, strict=True)
    }

    assert {
        name: (task["status"], task["error_code"])
        for name, task in ends.items()
        if (task["status"], task["error_code"]) != ("failed", "invalid_config")
    } == {}
    assert len(ends) >= 41
    assert not bait.touched.exists()


def test_a_row_that_names_a_folder_as_its_dataset_is_not_started(
    ground: Ground, platform: Platform, tmp_path: Path
):
    base = canonical(ground)
    outside = [
        {"dataset": "../../../etc", "dataset_version": "0123456789abcdef"},
        {"dataset_version": "../../../../etc"},
        {"dataset_version": "/etc"},
    ]
    ids = feed(ground, [{"config": base, **row} for row in outside], tmp_path)

    ends = [platform.client.final(task_id, within_s=60) for task_id in ids]

    assert {(task["status"], task["error_code"]) for task in ends} == {("failed", "not_started")}
    assert all("no version of a market" in task["error"] for task in ends)


def test_a_ring_that_names_another_callable_runs_nothing_and_the_worker_works_on(
    ground: Ground, platform: Platform, bait: Bait
):
    with platform.redis() as connection:
        bell = Queue("cpu", connection=connection, serializer=JSONSerializer)
        bell.enqueue_call("os.system", args=(bait.command,))
        bell.enqueue_call("subprocess.check_output", kwargs={"args": ["touch", str(bait.touched)]})
        bell.enqueue_call("training.work.jobs.run_next", kwargs={"queue": "../../x"})
        bell.enqueue_call("builtins.eval", args=(bait.python,))
        broken = bell.enqueue_call("os.system", args=(bait.command,))
        connection.hset(broken.key, "data", bait.pickle.read_bytes())
        until(lambda: bell.count == 0, what="an empty queue", within_s=60)

    after = platform.client.submit(workflows.small(ground.market, instruments=4, rounds=3))

    assert platform.client.final(after, within_s=180)["status"] == "completed"
    assert not bait.touched.exists()

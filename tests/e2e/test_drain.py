"""Draining for real: a worker that drains leaves its queue's tasks to the other."""

import pytest

from . import workflows
from .client import Client
from .conftest import Ground
from .platform_processes import Platform
from .waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.qlib, pytest.mark.redis, pytest.mark.timeout(900)]


def trained_by(client: Client, ground: Ground) -> str:
    task_id = client.submit(workflows.small(ground.market, instruments=4, rounds=3))
    task = client.final(task_id, within_s=200)
    assert task["status"] == "completed", task["error"]
    return str(task["worker"])


def test_a_draining_worker_takes_nothing_until_it_is_resumed(ground: Ground, platform: Platform):
    client = platform.client
    platform.start(workers=2)

    def alive() -> list[str]:
        listed = client.read("/api/workers").json()["results"]
        return [one["name"] for one in listed if one["alive"]]

    first, second = until(lambda: names if len(names := alive()) == 2 else None, what="two workers")

    assert client.call("POST", f"/api/workers/{first}/drain").json()["draining"]
    while_first_drains = {trained_by(client, ground) for _ in range(3)}
    assert not client.call("POST", f"/api/workers/{first}/resume").json()["draining"]
    client.call("POST", f"/api/workers/{second}/drain")
    after = {trained_by(client, ground) for _ in range(2)}
    client.call("POST", f"/api/workers/{second}/resume")

    assert while_first_drains == {second}
    assert after == {first}

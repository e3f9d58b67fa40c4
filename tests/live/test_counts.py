"""What a web process counts of its sockets, as Prometheus gets it."""

import asyncio
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.conftest import hear, hear_until

pytestmark = pytest.mark.redis


def figures(platform):
    with urllib.request.urlopen(f"http://{platform.address}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples}


async def test_sockets_lag_and_lost_messages_are_counted(platform):
    owner = platform.someone()
    task_id = platform.do("task", owner=owner.name)
    before = await asyncio.to_thread(figures, platform)

    async with platform.connect(f"/ws/train/{task_id}", owner) as client:
        first = await hear(client)
        await hear_until(client, platform.do("report", task_id, count=1))
        heard = await asyncio.to_thread(figures, platform)
        platform.kill_redis()
        last = platform.do("report", task_id, count=3)
        await hear_until(client, last)
        lost = await asyncio.to_thread(figures, platform)

    def grew(name, *, to, since):
        return to[f"qlibplatform_{name}"] - since[f"qlibplatform_{name}"]

    assert first["type"] == "snapshot"
    assert grew("sockets", to=heard, since=before) == 1
    assert grew("event_lag_seconds_count", to=heard, since=before) >= 1
    assert grew("wakeups_dropped_total", to=lost, since=heard) >= 3
    assert heard["qlibplatform_database_query_seconds_count"] > 0

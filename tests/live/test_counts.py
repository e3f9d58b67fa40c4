"""What a web process counts of its sockets, as Prometheus gets it."""

import asyncio
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from tests.live.conftest import hear, hear_until
from training.live import publish

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
        # Of several, since a look of the hub's own may be quicker than a single message.
        told = await asyncio.to_thread(platform.do, "report", task_id, count=20, pause_s=0.05)
        await hear_until(client, told)
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


async def test_sixty_sockets_ask_redis_and_the_database_as_often_as_one(platform):
    staff = [platform.someone(is_staff=True) for _ in range(2)]
    task_id = platform.do("task", owner=staff[0].name)

    async def queries_of(sockets):
        """How many there were while twenty events came."""
        opened = (
            platform.connect(f"/ws/train/{task_id}", staff[one % 2]) for one in range(sockets)
        )
        clients = await asyncio.gather(*opened)
        try:
            await asyncio.gather(*(hear(client) for client in clients))
            before = await asyncio.to_thread(figures, platform)
            last = await asyncio.to_thread(platform.do, "report", task_id, count=20, pause_s=0.05)
            await asyncio.gather(*(hear_until(client, last) for client in clients))
            after = await asyncio.to_thread(figures, platform)
            heard_by = dict(redis.pubsub_numsub(channel))[channel.encode()]
        finally:
            await asyncio.gather(*(client.close() for client in clients))
        name = "qlibplatform_database_query_seconds_count"
        return after[name] - before[name], heard_by

    with Redis.from_url(platform.env["PLATFORM_REDIS_URL"]) as redis:
        channel = f"asgi__group__{publish.task_group(task_id)}"
        few, once = await queries_of(1)
        many, as_often = await queries_of(60)

    assert (once, as_often) == (1, 1)
    # Looks come by the clock; each socket's own reading would be twelve hundred.
    assert many < few + 100

"""The list's socket, over real processes: the newest state of each task that the user may see."""

import asyncio
import json

import pytest

from tests.live.conftest import DEADLINE_S, hear, hear_nothing

pytestmark = pytest.mark.redis


@pytest.fixture
def owner(platform):
    return platform.someone()


async def hear_of(client, task_id, seq):
    """The messages up to the one with this state of this task."""
    heard = [await hear(client)]
    while (heard[-1]["task_id"], heard[-1]["seq"]) != (task_id, seq):
        heard.append(await hear(client))
    return heard


async def test_the_owner_sees_the_owners_tasks_and_staff_all(platform, owner):
    staff, stranger = platform.someone(is_staff=True), platform.someone()
    old = platform.do("task", owner=owner.name)
    async with (
        platform.connect("/ws/tasks", owner) as his,
        platform.connect("/ws/tasks", staff) as theirs,
        platform.connect("/ws/tasks", stranger) as nobodys,
    ):
        await hear_of(his, old, 2)
        await hear_of(theirs, old, 2)
        new = platform.do("task", owner=owner.name)
        heard = await hear_of(his, new, 2)
        await hear_of(theirs, new, 2)
        await hear_nothing(nobodys)

    assert {one["task_id"] for one in heard} == {new}
    assert heard[-1]["data"]["owner"] == owner.name
    assert heard[-1].keys() >= {"status", "progress", "stage", "message", "timestamp", "cursor"}


async def test_a_busy_task_is_told_four_times_a_second_at_most(platform, owner):
    task_id = platform.do("task", owner=owner.name)
    clock = asyncio.get_running_loop().time
    seqs, told = [], []

    async def listen(client):
        while True:
            seqs.append((await hear(client))["seq"])
            told.append(clock())

    async with platform.connect("/ws/tasks", owner) as client:
        await hear(client)
        listening = asyncio.create_task(listen(client))
        last = await asyncio.to_thread(platform.do, "report", task_id, count=100, pause_s=0.02)
        async with asyncio.timeout(DEADLINE_S):
            # The last message may come before the answer of who made it.
            while seqs[-1:] != [last]:
                await asyncio.sleep(0.01)
        listening.cancel()

    assert len(told) >= 3
    assert all(told[number + 4] - told[number] >= 0.95 for number in range(len(told) - 4))


async def test_a_cursor_resumes_with_what_has_changed(platform, owner):
    tasks = [platform.do("task", owner=owner.name) for _ in range(3)]
    async with platform.connect("/ws/tasks", owner) as client:
        heard = [await hear(client) for _ in tasks]
    last = platform.do("complete", tasks[1])

    async with platform.connect(f"/ws/tasks?cursor={heard[-1]['cursor']}", owner) as client:
        heard = await hear_of(client, tasks[1], last)

    assert heard[-1]["status"] == "completed"


@pytest.mark.parametrize("cursor", ["", "x", "ZTk5OTk5OTk5OQ==", "%ff", "ZS0x"])
async def test_a_cursor_that_is_none_begins_anew(platform, owner, cursor):
    task_id = platform.do("task", owner=owner.name)

    async with platform.connect(f"/ws/tasks?cursor={cursor}", owner) as client:
        assert (await hear(client))["task_id"] == task_id


async def test_without_redis_changes_and_deletions_are_found(platform, owner):
    task_id = platform.do("task", owner=owner.name)
    async with platform.connect("/ws/tasks", owner) as client:
        await hear(client)
        platform.kill_redis()
        last = platform.do("complete", task_id)
        heard = await hear_of(client, task_id, last)
        platform.do("delete_silently", task_id)
        gone = await hear(client)

    assert heard[-1]["status"] == "completed"
    assert (gone["type"], gone["task_id"], gone["seq"]) == ("deleted", task_id, last + 1)


async def test_a_deletion_is_told_to_those_who_saw_the_task(platform, owner):
    stranger = platform.someone()
    task_id = platform.do("task", owner=owner.name, status="completed")
    async with (
        platform.connect("/ws/tasks", owner) as his,
        platform.connect("/ws/tasks", stranger) as nobodys,
    ):
        await hear(his)
        platform.do("delete", task_id)
        told = await hear(his)
        await hear_nothing(nobodys)

    assert (told["type"], told["task_id"]) == ("deleted", task_id)
    assert told["timestamp"]


async def test_words_are_answered(platform, owner):
    task_id = platform.do("task", owner=owner.name)
    async with platform.connect("/ws/tasks", owner) as client:
        cursor = (await hear(client))["cursor"]
        answers = []
        for word in ({"type": "ping"}, {"type": "sync", "cursor": 1}, {"type": "sync"}):
            await client.send(json.dumps(word))
            answers.append(await hear(client))
        await client.send(json.dumps({"type": "sync", "cursor": cursor}))
        again = await hear(client)

    assert [one["type"] for one in answers] == ["pong", "error", "state"]
    assert (again["type"], again["task_id"]) == ("state", task_id)

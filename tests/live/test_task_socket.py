"""One task's socket, over real processes: nothing missed, nothing twice, to nobody else."""

import asyncio
import json
import signal

import pytest

from tests.live.conftest import close_code, hear, hear_all, hear_nothing, hear_until
from training.live.outlet import STUCK_S

pytestmark = pytest.mark.redis

FIELDS = {"type", "task_id", "seq", "status", "progress", "stage", "message", "timestamp", "data"}


@pytest.fixture
def owner(platform):
    return platform.someone()


@pytest.fixture
def task_id(platform, owner):
    return platform.do("task", owner=owner.name)


@pytest.fixture
def watch(platform, owner, task_id):
    """`watch(after=n)`: the owner's connection to the task's socket."""

    def open_(after=None, who=owner, **options):
        query = "" if after is None else f"?after={after}"
        return platform.connect(f"/ws/train/{task_id}{query}", who, **options)

    return open_


def seqs(messages):
    return [message["seq"] for message in messages]


# ── What is told ────────────────────────────────────────────────────────────────────────


async def test_a_client_gets_the_whole_task_and_then_every_event(platform, watch, task_id):
    async with watch() as client:
        first = await hear(client)
        last = platform.do("report", task_id, count=5)
        platform.do("complete", task_id)
        heard = await hear_until(client, last + 1)

    assert (first["type"], first["seq"], first["data"]["task"]["id"]) == ("snapshot", 2, task_id)
    assert seqs(heard) == [3, 4, 5, 6, 7, 8]
    assert [one["type"] for one in heard] == ["progress"] * 5 + ["completed"]
    assert all(one.keys() >= FIELDS for one in [first, *heard])


async def test_a_message_arrives_by_redis_long_before_the_look(platform, watch, task_id):
    async with watch() as client:
        await hear(client)
        await hear_nothing(client)

        platform.do("report", task_id)
        await hear(client, within_s=0.2)


async def test_after_gives_what_follows_and_no_snapshot(platform, watch, task_id):
    platform.do("report", task_id, count=6)

    async with watch(after=4) as client:
        heard = await hear_until(client, 8)
        await hear_nothing(client)

    assert seqs(heard) == [5, 6, 7, 8]


async def test_a_long_past_comes_in_order_and_whole(platform, watch, task_id):
    last = platform.do("report", task_id, count=900)

    async with watch(after=0) as client:
        heard = await hear_until(client, last)

    assert seqs(heard) == list(range(1, last + 1))


async def test_where_progress_was_pruned_a_snapshot_stands_for_it(platform, watch, task_id):
    last = platform.do("report", task_id, count=10)
    platform.do("prune", task_id, below=8)

    async with watch(after=4) as client:
        first = await hear(client)
        following = platform.do("report", task_id)
        heard = await hear_until(client, following)

    assert (first["type"], first["seq"]) == ("snapshot", last)
    assert seqs(heard) == [last + 1]


@pytest.mark.parametrize("after", ["999999", "-1", "x", "1e3", "", "99999999999999999999"])
async def test_a_number_that_the_task_does_not_have_gets_a_snapshot(watch, after):
    async with watch(after=after) as client:
        assert (await hear(client))["type"] == "snapshot"


async def test_a_socket_stays_open_after_the_end(platform, watch, task_id):
    last = platform.do("complete", task_id)

    async with watch() as client:
        assert (await hear(client))["status"] == "completed"
        await client.send('{"type": "ping"}')
        answer = await hear(client)

    assert (answer["type"], answer["seq"], answer["status"]) == ("pong", last, "completed")
    assert answer.keys() >= FIELDS


# ── What gets lost ──────────────────────────────────────────────────────────────────────


async def test_the_last_message_of_all_is_found_without_redis(platform, watch, task_id):
    async with watch() as client:
        await hear(client)
        platform.kill_redis()
        last = platform.do("complete", task_id)
        heard = await hear_until(client, last)

    assert [one["type"] for one in heard] == ["completed"]


async def test_with_redis_away_and_back_nothing_is_missed_or_doubled(platform, watch, task_id):
    async with watch() as client:
        await hear(client)
        heard = []
        for first in (1, 11, 21):
            platform.do("report", task_id, first=first, count=5)
            platform.kill_redis()
            last = platform.do("report", task_id, first=first + 5, count=5)
            heard += await hear_until(client, last)
            platform.start_redis()

    assert seqs(heard) == list(range(3, last + 1))


async def test_after_redis_came_back_messages_are_fast_again(platform, watch, task_id):
    async with watch() as client:
        await hear(client)
        platform.kill_redis()
        await hear_until(client, await asyncio.to_thread(platform.do, "report", task_id))
        platform.start_redis()

        for _ in range(100):
            last = platform.do("report", task_id)
            began = asyncio.get_running_loop().time()
            await hear_until(client, last)
            if asyncio.get_running_loop().time() - began < 0.05:
                return
            await hear_nothing(client, for_s=0.2)
    pytest.fail("no message came by Redis any more")


async def test_a_web_process_that_starts_without_redis_serves_by_looks(platform, watch, task_id):
    platform.end_web()
    platform.kill_redis()
    platform.start_web()

    async with watch() as client:
        await hear(client)
        last = platform.do("report", task_id, count=3)
        heard = await hear_until(client, last)

    assert seqs(heard) == [3, 4, 5]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_over_a_restart_of_the_web_the_last_number_resumes(platform, watch, task_id, how):
    async with watch() as client:
        await hear(client)
        heard = await hear_until(client, platform.do("report", task_id, count=3))
        await asyncio.to_thread(platform.end_web, how)
        code = await close_code(client)
    last = platform.do("report", task_id, first=4, count=3)
    platform.start_web()
    async with watch(after=heard[-1]["seq"]) as client:
        heard += await hear_until(client, last)

    assert seqs(heard) == [3, 4, 5, 6, 7, 8]
    assert code == (1001 if how == signal.SIGTERM else None)


async def test_deletion_is_told(platform, watch, task_id):
    last = platform.do("complete", task_id)

    async with watch() as client:
        await hear(client)
        platform.do("delete", task_id)
        told = await hear(client)

    assert (told["type"], told["seq"], told["status"]) == ("deleted", last + 1, "completed")
    assert told.keys() >= FIELDS


async def test_deletion_is_told_when_nobody_said_so(platform, watch, task_id):
    async with watch() as client:
        await hear(client)
        last = platform.do("complete", task_id)
        await hear_until(client, last)
        platform.do("delete_silently", task_id)
        told = await hear(client)
        await hear_nothing(client)

    assert (told["type"], told["seq"], told["status"]) == ("deleted", last + 1, "completed")
    assert told.keys() >= FIELDS


# ── What a client may say ───────────────────────────────────────────────────────────────


async def test_sync_tells_again_from_the_number_on(platform, watch, task_id):
    last = platform.do("report", task_id, count=4)

    async with watch() as client:
        await hear(client)
        await client.send(json.dumps({"type": "sync", "after": 3}))
        heard = await hear_until(client, last)
        await client.send(json.dumps({"type": "sync", "after": 4_000}))
        anew = await hear(client)

    assert seqs(heard) == [4, 5, 6]
    assert (anew["type"], anew["seq"]) == ("snapshot", last)


@pytest.mark.parametrize(
    "word",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 4_000,
        '{"type": "sync"}',
        '{"type": "sync", "after": -1}',
        '{"type": "sync", "after": true}',
        '{"type": "sync", "after": "1"}',
        '{"type": "sync", "after": 1e400}',
        '{"type": ["ping"]}',
        '{"type": "ping", "pad": "' + "x" * 5_000 + '"}',
        b'{"type": "ping"}',
        b"\xff\xfe",
    ],
    ids=repr,
)
async def test_anything_else_gets_one_error_and_is_ignored(platform, watch, task_id, word):
    async with watch() as client:
        await hear(client)
        await client.send(word)
        answer = await hear(client)
        heard = await hear_until(client, platform.do("report", task_id))

    assert answer["type"] == "error"
    assert "ping" in answer["message"]
    assert answer.keys() >= FIELDS
    assert seqs(heard) == [3]


async def test_a_client_that_floods_is_answered_seldom_and_served_on(platform, watch, task_id):
    async with watch() as client:
        await hear(client)
        for _ in range(2_000):
            await client.send("rubbish")
        last = platform.do("report", task_id)
        heard = [await hear(client)]
        while heard[-1]["type"] == "error":
            heard.append(await hear(client))

    assert heard[-1]["seq"] == last
    assert len(heard) < 200


async def test_under_uvicorn_a_client_misses_nothing_either(platform, watch, task_id):
    platform.end_web()
    platform.start_web(server="uvicorn")
    try:
        async with watch() as client:
            first = await hear(client)
            heard = await hear_until(client, platform.do("report", task_id, count=20))
        async with watch(after=heard[4]["seq"]) as client:
            again = await hear_until(client, heard[-1]["seq"])
    finally:
        platform.end_web()

    assert first["type"] == "snapshot"
    assert seqs(heard) == list(range(3, 23))
    assert again == heard[5:]


# ── Many, and slow ──────────────────────────────────────────────────────────────────────


async def test_three_hundred_sockets_get_every_event_once(platform, watch, task_id):
    staff = [platform.someone(is_staff=True) for _ in range(6)]
    clients = await asyncio.gather(*(watch(who=staff[number % 6]) for number in range(300)))
    try:
        first = await asyncio.gather(*(hear(client) for client in clients))
        last = await asyncio.to_thread(platform.do, "report", task_id, count=20)
        heard = await asyncio.gather(*(hear_until(client, last) for client in clients))
    finally:
        await asyncio.gather(*(client.close() for client in clients))

    assert {one["type"] for one in first} == {"snapshot"}
    assert all(seqs(one) == list(range(3, last + 1)) for one in heard)


async def test_a_slow_reader_misses_nothing_and_holds_nobody_up(platform, watch, task_id):
    async with watch(max_queue=1, narrow=True) as slow, watch() as fast:
        await hear(slow)
        await hear(fast)
        filling = asyncio.to_thread(platform.do, "log", task_id, chars=15_000, count=300)
        heard, late, last = await asyncio.gather(
            hear_until(fast, 302), _sip_until(slow, 302), filling
        )

    assert seqs(heard) == seqs(late) == list(range(3, last + 1))


async def _sip_until(client, seq):
    """The messages up to the one with this number, read more slowly than they come."""
    heard = [await hear(client)]
    while heard[-1]["seq"] != seq:
        await asyncio.sleep(0.02)
        heard.append(await hear(client))
    return heard


def _fill(platform, task_id):
    """More than the buffers hold, then progress, then the end."""
    filled = platform.do("log", task_id, chars=15_000, count=300)
    platform.do("report", task_id, count=400)
    return filled, platform.do("complete", task_id)


async def test_joined_progress_names_where_it_begins(platform, watch, task_id):
    async with watch(max_queue=1, narrow=True) as slow:
        await hear(slow)
        filling = asyncio.ensure_future(asyncio.to_thread(_fill, platform, task_id))
        late = [await hear(slow)]
        while not filling.done():
            # A little, so as not to be taken for dead on a busy machine.
            await asyncio.wait({filling}, timeout=0.2)
            late.append(await hear(slow))
        filled, last = await filling
        late += await hear_until(slow, last)

    told = [seq for one in late for seq in range(one.get("from_seq", one["seq"]), one["seq"] + 1)]
    joined = [one for one in late if "from_seq" in one]
    assert told == list(range(3, last + 1))
    assert joined
    assert {one["type"] for one in joined} == {"progress"}
    assert sum(one["type"] == "log" for one in late) == filled - 2


async def test_who_does_not_read_at_all_is_closed_and_may_come_back(platform, watch, task_id):
    stuck = await watch(max_queue=1, narrow=True, close_timeout=1)
    first = await hear(stuck)
    last = platform.do("log", task_id, chars=15_000, count=300)
    await asyncio.sleep(STUCK_S + 3)
    heard = [first, *await hear_all(stuck)]
    async with watch(after=heard[-1]["seq"]) as again:
        heard += await hear_until(again, last)

    assert seqs(heard) == list(range(2, last + 1))

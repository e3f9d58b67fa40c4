"""Publishing: in the layer's own form, and never to the harm of who publishes."""

import asyncio
import json
import os
import shutil
import socket
import time

import pytest
from channels.layers import get_channel_layer

from tests.live.conftest import new_platform
from training import events, lifecycle
from training.live import publish
from training.states import Stage, Status

MESSAGE = {"type": "progress", "task_id": "task-1", "seq": 7, "message": "é \u2028 <b>"}


@pytest.fixture
def redis(settings):
    """A Redis of the test's own, and the layer on it."""
    place = new_platform()
    place.start_redis()
    settings.CHANNEL_LAYERS = _layer_at(place.folder / "redis.sock")
    publish._kept = None
    yield place
    place.stop()
    shutil.rmtree(place.folder)
    publish._kept = None


def _layer_at(path):
    config = {"hosts": [{"address": f"unix://{path}"}]}
    return {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": config,
        }
    }


async def _hear_one(group, publishing):
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    await asyncio.to_thread(publishing)
    async with asyncio.timeout(5):
        message = await layer.receive(channel)
    await layer.flush()
    return message


@pytest.mark.redis
@pytest.mark.usefixtures("redis")
async def test_the_official_layer_hears_what_is_published():
    group = publish.task_group("task-1")

    heard = await _hear_one(group, lambda: publish.publish([MESSAGE], owner_id=3))

    assert (heard["type"], heard["seq"], heard["kind"]) == ("task.event", 7, "progress")
    assert json.loads(heard["text"]) == MESSAGE


def test_events_of_one_commit_go_out_in_one_write_and_lists_are_told_once(monkeypatch, settings):
    settings.CHANNEL_LAYERS = _layer_at("/nowhere")
    written = []
    monkeypatch.setattr(publish._Line, "send", lambda _, commands: written.append(commands))
    log = {**MESSAGE, "type": "log", "seq": 8}

    publish.publish([MESSAGE, log], owner_id=3)

    [commands] = written
    assert [b"training.task.task-1" in one for one in commands] == [True, True, False]
    assert b"training.tasks" in commands[2]


@pytest.mark.redis
@pytest.mark.usefixtures("redis")
async def test_a_fork_publishes_over_a_connection_of_its_own():
    group = publish.task_group("task-1")
    publish.publish([MESSAGE], owner_id=3)
    mine = publish._kept

    def in_a_fork():
        # The lock is held, as it may be by another thread at the moment of a fork.
        with mine.lock:
            child = os.fork()
            if child == 0:
                publish.publish([{**MESSAGE, "seq": 8}], owner_id=3)
                os._exit(0)
        os.waitpid(child, 0)

    heard = await _hear_one(group, in_a_fork)

    assert heard["seq"] == 8
    assert publish._kept is mine


@pytest.mark.redis
def test_a_redis_that_went_and_came_costs_no_message(redis):
    publish.publish([MESSAGE], owner_id=3)
    redis.kill_redis()
    redis.start_redis()

    publish.publish([MESSAGE], owner_id=3)

    assert publish._kept.rests_until == 0.0


@pytest.mark.redis
def test_a_dead_redis_is_left_alone_for_a_while(redis, caplog):
    redis.kill_redis()

    began = time.monotonic()
    for _ in range(1_000):
        publish.publish([MESSAGE], owner_id=3)

    assert time.monotonic() - began < 0.5
    assert 1 <= len(caplog.records) <= 2


@pytest.mark.redis
def test_a_redis_that_hangs_holds_nobody_up_for_long(settings):
    path = new_platform().folder / "redis.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        settings.CHANNEL_LAYERS = _layer_at(path)
        publish._kept = None
        began = time.monotonic()
        for _ in range(100):
            publish.publish([MESSAGE], owner_id=3)
    took_s = time.monotonic() - began
    shutil.rmtree(path.parent)
    publish._kept = None

    assert took_s < 3 * publish.TIMEOUT_S


@pytest.mark.parametrize("broken", [{"task_id": "x"}, {**MESSAGE, "data": object()}])
def test_what_can_not_be_told_raises_nothing(broken, caplog):
    publish.publish([broken], owner_id=1)

    assert "not published" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_an_event_is_published_after_its_commit_with_its_owner(monkeypatch, make_task, owner):
    told = []
    monkeypatch.setattr(
        "training.live.broadcast.publish",
        lambda messages, owner_id: told.append((messages, owner_id)),
    )

    task = make_task()
    lifecycle.request_cancel(task.id)

    assert [[(one["type"], one["seq"]) for one in messages] for messages, _ in told] == [
        [("created", 1)],
        [("cancelled", 2)],
    ]
    assert {owner_id for _, owner_id in told} == {owner.id}


@pytest.mark.django_db(transaction=True)
def test_all_events_of_a_report_are_published_together(monkeypatch, make_task):
    task = make_task(status=Status.RUNNING)
    told = []
    monkeypatch.setattr(
        "training.live.broadcast.publish", lambda messages, owner_id: told.append(messages)
    )

    news = lifecycle.News(progress=1.0, stages=((Stage.FIT, "now fit"),), log="a line")
    lifecycle.report(task.id, news, attempt=1)

    assert [[(one["type"], one["seq"]) for one in messages] for messages in told] == [
        [("stage", 3), ("progress", 4), ("log", 5)]
    ]
    assert all(one["timestamp"] for one in told[0])
    assert told[0][0].keys() == events.to_wire(task.events.get(seq=1)).keys()

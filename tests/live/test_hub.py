"""The hub without processes."""

import asyncio
import threading

from training.live import hub, reads


async def test_a_process_has_one_hub_and_makes_no_other(monkeypatch):
    made = []
    make = hub.Hub.__init__
    monkeypatch.setattr(hub.Hub, "__init__", lambda self: made.append(self) or make(self))

    hubs = {hub.current() for _ in range(3)}

    assert hubs == set(made)
    assert len(made) == 1


def test_each_event_loop_has_its_own():
    async def current():
        return hub.current()

    assert asyncio.run(current()) is not asyncio.run(current())


async def test_a_slow_question_to_the_database_holds_no_other_up():
    answer = threading.Event()
    slow = asyncio.create_task(reads.run(answer.wait, 60))
    try:
        async with asyncio.timeout(10):
            assert await reads.run(lambda: "quick") == "quick"
        assert not slow.done()
    finally:
        answer.set()
        await slow


async def test_looking_at_many_sockets_lets_others_have_their_turn():
    members = list(range(3 * hub.AT_ONCE))
    turns = []

    async def others():
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    meanwhile = asyncio.create_task(others())
    seen = [member async for member in hub._with_pauses(members)]
    meanwhile.cancel()

    assert seen == members
    assert len(turns) == 3

"""The hub without processes."""

import asyncio

from training.live import hub


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

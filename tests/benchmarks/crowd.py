"""What a crowd does to the sockets: a storm of reconnects, and readers that are stuck.

    python -m tests.benchmarks.crowd storm --clients 2000 --spread 5
    python -m tests.benchmarks.crowd stuck --clients 1000

storm: the web process is killed under all clients and started again; each comes back with
`after` at a random moment of the spread, and again a second later if refused. stuck: clients that
never read, while the log of their task grows by 15 KB a line and twenty others read on.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from typing import Any

import psutil
from websockets import ConnectionClosed, InvalidStatus

from tests.live.conftest import Platform, Someone, hear, new_platform

LIMITS = {"PLATFORM_SOCKETS_PER_USER": "100000", "PLATFORM_SOCKETS_PER_USER_AND_TASK": "100000"}
TASKS = 10
GOOD = 20
SEEN = 2
"""The number of the newest event of a task that has just begun to run."""


async def storm(platform: Platform, asked: argparse.Namespace) -> dict[str, Any]:
    """How long until everybody is back, and what was answered meanwhile."""
    people = [platform.someone() for _ in range(20)]
    tasks = [(who, platform.do("task", owner=who.name)) for who in people]
    mine = [tasks[number % len(tasks)] for number in range(asked.clients)]
    for_each = [await platform.connect(f"/ws/train/{task}", who) for who, task in mine]
    await asyncio.gather(*(hear(client) for client in for_each))
    platform.end_web(signal.SIGKILL)
    platform.start_web(server=asked.server)
    began = time.monotonic()
    refusals: list[str] = []
    back = await asyncio.gather(
        *(_come_back(platform, who, task, asked.spread, refusals) for who, task in mine)
    )
    last = await asyncio.to_thread(platform.do, "report", mine[0][1])
    told = await hear(back[0][1])
    assert told["seq"] == last, told
    return {
        "all_back_s": round(max(at for at, _ in back) - began, 1),
        "refusals": {one: refusals.count(one) for one in set(refusals)},
        "threads": psutil.Process(platform.web.pid).num_threads() if platform.web else None,
    }


async def _come_back(
    platform: Platform, who: Someone, task_id: str, spread_s: float, refusals: list[str]
) -> tuple[float, Any]:
    await asyncio.sleep(random.uniform(0, spread_s))  # noqa: S311
    while True:
        try:
            client = await platform.connect(f"/ws/train/{task_id}?after={SEEN}", who)
            # Up to date already: a pong is the first that is heard.
            await client.send('{"type": "ping"}')
            await hear(client)
            return time.monotonic(), client
        except InvalidStatus as refused:
            refusals.append(f"HTTP {refused.response.status_code}")
        except (OSError, TimeoutError, ConnectionClosed) as broken:
            refusals.append(type(broken).__name__)
        await asyncio.sleep(1)


async def stuck(platform: Platform, asked: argparse.Namespace) -> dict[str, Any]:
    """Memory, and what the others notice, while nobody reads; and when they are closed."""
    who = platform.someone()
    tasks = [platform.do("task", owner=who.name) for _ in range(TASKS)]
    web = psutil.Process(platform.web.pid if platform.web else 0)
    watched = platform.do("task", owner=who.name)
    good = [await platform.connect(f"/ws/train/{watched}", who) for _ in range(GOOD)]
    await asyncio.gather(*(hear(client) for client in good))
    alone = await _lags(platform, good, watched)
    still = [
        await platform.connect(
            f"/ws/train/{tasks[number % TASKS]}", who, max_queue=1, narrow=True, close_timeout=1
        )
        for number in range(asked.clients)
    ]
    before = web.memory_info().rss
    began = time.monotonic()
    for task in tasks:
        await asyncio.to_thread(platform.do, "log", task, chars=15_000, count=40)
    beside = await _lags(platform, good, watched)
    most = web.memory_info().rss
    while len(web.net_connections("tcp")) > GOOD + 5 and time.monotonic() - began < 120:
        most = max(most, web.memory_info().rss)
        await asyncio.sleep(0.5)
    return {
        "memory_mb": round((most - before) / 2**20, 1),
        "closed_after_s": round(time.monotonic() - began, 1),
        "left_open": max(0, len(web.net_connections("tcp")) - GOOD - 1),
        "others_ms_alone": alone,
        "others_ms_beside": beside,
        "clients": len(still),
    }


async def _lags(platform: Platform, clients: list[Any], task_id: str) -> list[float]:
    """From before the commit to the client: median and 99th hundredth, in ms."""
    took = []
    for number in range(50):
        began = time.perf_counter()
        heard = [asyncio.ensure_future(hear(client)) for client in clients]
        for one in heard:
            one.add_done_callback(lambda _: took.append((time.perf_counter() - began) * 1e3))  # noqa: B023
        await asyncio.to_thread(platform.do, "report", task_id, first=number)
        await asyncio.gather(*heard)
    took.sort()
    return [round(statistics.median(took), 1), round(took[int(len(took) * 0.99)], 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=["storm", "stuck"])
    parser.add_argument("--server", choices=["daphne", "uvicorn"], default="daphne")
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--spread", type=float, default=5.0)
    asked = parser.parse_args()
    # So that a time limit from outside leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    platform = new_platform(**LIMITS, PLATFORM_LISTENER_LOOK_S="2")
    try:
        platform.start_redis()
        platform.start_driver()
        platform.start_web(server=asked.server)
        told = asyncio.run({"storm": storm, "stuck": stuck}[asked.scenario](platform, asked))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    finally:
        platform.stop()


if __name__ == "__main__":
    main()

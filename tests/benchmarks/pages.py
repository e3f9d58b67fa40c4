"""How quick the pages are: a list of 100,000 tasks, and a task with 5,000 points of its curves.

    python -m tests.benchmarks.pages [--tasks 100000] [--points 5000] [--requests 100]

The server's time is measured in the process, middleware and templates included, after two warm-up
requests, by the clock and of the processor (which a busy machine changes less); the paint by
Chromium (first contentful, cold cache, five loads) on a daphne of its own. SQLite, in a directory
that is removed afterwards.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LOADS = 5
BATCH = 5_000


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--points", type=int, default=5_000)
    options.add_argument("--requests", type=int, default=100)
    asked = options.parse_args()
    state = Path(tempfile.mkdtemp(prefix="pages-"))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
        "PLATFORM_STATE_DIR": str(state),
        "PLATFORM_LOG_LEVEL": "ERROR",
    }
    try:
        measure(asked)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def measure(asked: argparse.Namespace) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    from training.task_lists import ORDERINGS

    call_command("migrate", verbosity=0)
    busy = fill(asked.tasks, asked.points)
    pages = {
        "list, newest": "/",
        **{f"list, by {one}": f"/?ordering={one}" for one in ORDERINGS if one != "-created_at"},
        "list, failed": "/?status=failed",
        "list, search": "/?q=task+99",
        "list, search for nothing": "/?q=absent",
        f"task, {asked.points} points": f"/tasks/{busy}",
        f"its curves, {asked.points} points": f"/api/tasks/{busy}/metrics?points=1500",
    }
    session = serve(pages, asked.requests)
    painted = ("list, newest", f"task, {asked.points} points")
    paints({name: pages[name] for name in painted}, session)


def fill(tasks: int, points: int) -> str:
    """Rows as the platform would have left them; the id of the task with the points."""
    from django.contrib.auth.models import User

    from training.models import HEADLINES, MetricPoint, TrainingTask

    owner = User.objects.create_superuser("admin", password="measured-9x")
    now = datetime.now(UTC)
    common = {
        "owner": owner,
        "dataset": "demo",
        "dataset_version": "v1",
        "model": "LGBModel",
        "posted": "# a workflow\n" * 90,
        "config": {"task": {"model": {"kwargs": {str(n): n for n in range(60)}}}},
        "queue": "cpu",
        "stage": "save",
    }
    for first in range(0, tasks, BATCH):
        rows = []
        for number in range(first, min(first + BATCH, tasks)):
            ended = ("completed", "completed", "failed", "cancelled")[number % 4]
            ic = (number * 7919 % 1000) / 10_000 if ended == "completed" else None
            at = now - timedelta(seconds=30 * number)
            times = {"created_at": at, "started_at": at, "completed_at": at}
            rows.append(
                TrainingTask(
                    name=f"task {number}",
                    status=ended,
                    progress=100.0 if ended == "completed" else 40.0,
                    **dict.fromkeys(HEADLINES, ic),
                    **times,
                    **common,
                )
            )
        TrainingTask.objects.bulk_create(rows)
    busy = TrainingTask.objects.create(
        name="busy", status="running", attempt=1, lease_until=now + timedelta(hours=1), **common
    )
    MetricPoint.objects.bulk_create(
        MetricPoint(task=busy, attempt=1, name=name, step=step, value=1.0 / step, at=now)
        for name in ("train.l2", "valid.l2")
        for step in range(1, points // 2 + 1)
    )
    return busy.id


def serve(pages: dict[str, str], requests: int) -> str:
    """Print the server's time for each page; returns a session's cookie."""
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    client.login(username="admin", password="measured-9x")
    for name, path in pages.items():
        calls = [once(lambda path=path: client.get(path)) for _ in range(requests + 2)][2:]
        size = len(client.get(path).content)
        wall, cpu = ([call[kind] for call in calls] for kind in (0, 1))
        line = (told(name, wall), told("  CPU", cpu), f"  {size / 1024:.0f} KiB")
        print(*line, flush=True)  # noqa: T201
    return client.cookies["sessionid"].value


def once(call: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of one call, by the clock and of the processor; it must be answered by 200."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    answer = call()
    took = 1_000 * (time.perf_counter() - begin), 1_000 * (time.process_time() - begin_cpu)
    assert answer.status_code == 200, answer  # type: ignore[attr-defined]
    return took


def told(name: str, took: list[float]) -> str:
    p95 = statistics.quantiles(took, n=20)[-1]
    return f"{name:28} p50 {statistics.median(took):7.1f} ms   p95 {p95:7.1f} ms"


def paints(pages: dict[str, str], session: str) -> None:
    """Print how long Chromium takes to the first contentful paint, with a cold cache."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "daphne", "-p", str(port), "qlibplatform.asgi:application"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    web = subprocess.Popen(command, cwd=CHECKOUT, **quiet)
    try:
        wait_for(port)
        with sync_playwright() as playwright:
            path = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            cookie = {"name": "sessionid", "value": session, "url": f"http://127.0.0.1:{port}"}
            for name, address in pages.items():
                took = []
                for _ in range(LOADS + 1):
                    context = browser.new_context()
                    context.add_cookies([cookie])
                    page = context.new_page()
                    page.goto(f"http://127.0.0.1:{port}{address}")
                    took.append(page.evaluate(PAINT))
                    context.close()
                print(f"{name:28} first paint, median {statistics.median(took[1:]):7.1f} ms")  # noqa: T201
            browser.close()
    finally:
        web.terminate()
        web.wait()


PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
    const paint = list.getEntriesByName("first-contentful-paint")[0];
    if (paint) done(paint.startTime);
}).observe({type: "paint", buffered: true}))"""


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError("the web process did not start")


if __name__ == "__main__":
    main()

"""Backup while eight tasks run, everything destroyed, restored elsewhere, compared, worked on.

    MARKET_DATA=… python -m tests.benchmarks.restore_drill [sqlite|postgresql]

Prints seconds and sizes. Raises, if anything final was lost or what ran is not taken up again.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests import postgres
from tests.e2e import databases, market, workflows
from tests.e2e.client import Client
from tests.e2e.platform_processes import Platform, running
from tests.e2e.waiting import until

FINAL, RUNNING = 2, 8
WITHIN_S = 600


def main(kind: str) -> None:
    if kind == "postgresql":
        # pg_dump must be as new as the server.
        os.environ["PATH"] = f"{postgres.programs()}:{os.environ['PATH']}"
    folder = Path(tempfile.mkdtemp(prefix="qp-drill-", dir="/tmp"))
    with databases.fresh(kind) as old_url, databases.fresh(kind) as new_url:
        with running(database_url=old_url, datasets_dir=folder / "data") as old:
            finals, ran = work(old)
            told, took_s = timed(lambda: old.manage("backup", str(folder / "backups")))
            say("backup", told, took_s)
            token = old.token
            old.kill_tree(*old.processes)
        shutil.rmtree(folder / "data")
        (backup,) = (folder / "backups").glob("2*Z")
        size = sum(file.stat().st_size for file in backup.rglob("*") if file.is_file())
        say("size", f"{size / 1e6:.1f} MB", 0)
        with running(database_url=new_url, datasets_dir=folder / "data") as new:
            told, took_s = timed(lambda: new.manage("restore", str(backup), "--replace"))
            say("restore", told, took_s)
            new.token = token
            new.start(workers=1)
            compare(new.client, finals)
            take_up(new.client, ran)
            say("audit", new.manage("audit"), 0)
    shutil.rmtree(folder)


def work(platform: Platform) -> tuple[dict[str, Any], list[str]]:
    """The final tasks, and the ids of those that run."""
    place = market.import_into(platform)
    platform.start(workers=1)
    client = platform.client
    done = [client.submit(workflows.small(place)) for _ in range(FINAL)]
    finals = {task_id: client.final(task_id, within_s=WITHIN_S) for task_id in done}
    text = workflows.small(place, instruments=4, rounds=100_000)
    ran = [client.submit(text) for _ in range(RUNNING)]
    for number in range(2, RUNNING + 1):
        platform.start_worker(f"worker-{number}")

    def all_run() -> bool:
        return all(client.task(task_id)["stage"] == "fit" for task_id in ran)

    until(all_run, what="eight fits", within_s=WITHIN_S, every_s=1)
    return finals, ran


def compare(client: Client, finals: dict[str, Any]) -> None:
    for task_id, before in finals.items():
        now = client.task(task_id)
        assert {**now, "pinned": 0} == {**before, "pinned": 0}, task_id
        for one in now["result"]["artifacts"]:
            assert len(client.download(task_id, one["path"])) == one["bytes"]


def take_up(client: Client, ran: list[str]) -> None:
    """All wait or run again; the first that runs comes to its end."""
    tasks = [client.task(task_id) for task_id in ran]
    assert {task["status"] for task in tasks} <= {"pending", "running"}

    def one_fits() -> str | None:
        return next((i for i in ran if client.task(i)["stage"] == "fit"), None)

    first = until(one_fits, what="one that runs again", within_s=WITHIN_S, every_s=1)
    assert client.act(first, "finish").status_code == 202
    task, took_s = timed(lambda: client.final(first, within_s=WITHIN_S))
    assert (task["status"], task["attempt"]) == ("completed", 2), task["error"]
    say("asked to finish early, completed", f"attempt {task['attempt']}", took_s)
    for other in ran:
        client.act(other, "cancel")


def timed(do: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    return do(), time.monotonic() - begun


def say(what: str, told: str, took_s: float) -> None:
    print(f"{what}: {told.strip()} ({took_s:.1f} s)", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sqlite")

"""Publishes progress as a leader does, below the gathering, with stamps for a load client.

    python -m tests.benchmarks.publisher --tasks ID,ID --rate 20 --count 400

With --batch several go out together, as those of one commit do (of one task). With --commit each
goes the whole way, as an event in the database. Needs the environment that `served` prints. A
message says `ns=<time.time_ns()> seq=<n>`.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import django

django.setup()

from training import lifecycle  # noqa: E402
from training.lifecycle import News  # noqa: E402
from training.live import publish  # noqa: E402
from training.models import TrainingTask  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--rate", type=float, required=True, help="over all tasks; 0: no pause")
    parser.add_argument("--count", type=int, required=True, help="over all tasks")
    parser.add_argument("--commit", action="store_true")
    parser.add_argument("--batch", type=int, default=1, help="events of one commit")
    asked = parser.parse_args()
    tasks = asked.tasks.split(",")
    known = TrainingTask.objects.in_bulk(tasks)
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(0, asked.count, asked.batch):
        if asked.rate:
            time.sleep(max(0.0, began + number / asked.rate - time.perf_counter()))
        task, seq = known[tasks[number % len(tasks)]], number // len(tasks)
        if asked.commit:
            stamp = f"ns={time.time_ns()} seq={seq} "
            lifecycle.report(task.id, News(progress=0.5, message=stamp), attempt=1)
        else:
            of_one_commit = [_progress(task, seq + extra) for extra in range(asked.batch)]
            publish.publish(of_one_commit, owner_id=task.owner_id)
    took = time.perf_counter() - began
    told = {
        "publishes_per_s": round(asked.count / took, 1),
        "cpu_us": round((time.process_time() - cpu) * 1e6 / asked.count, 1),
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _progress(task: TrainingTask, number: int) -> dict[str, Any]:
    return {
        "type": "progress",
        "task_id": task.id,
        "seq": task.last_seq + 1 + number,
        "attempt": 1,
        "status": "running",
        "progress": 0.5,
        "stage": "fit",
        "message": f"ns={time.time_ns()} seq={number} ",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {},
    }


if __name__ == "__main__":
    main()

"""Times how long an idle worker takes from a posted workflow to its training's first line. By hand:

    python -m tests.benchmarks.start_latency --url http://127.0.0.1:8000 --count 100 WORKFLOW.yaml

TOKEN in the environment signs in. Posts a small workflow, waits for its end and a second more,
`count` times. Prints milliseconds, p50, p99 and largest, from `created_at` and from the moment
before the request: until the leader's first line (the task is claimed) and until the line that
the training process writes once its walls stand (its own clock; all on one machine).
"""

import argparse
import statistics
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.against_qrun import ask, headers


def first_lines(url: str, task_id: str) -> tuple[datetime, datetime]:
    """When the leader and the training wrote their first lines."""
    request = urllib.request.Request(  # noqa: S310
        f"{url}/api/tasks/{task_id}/log", headers=headers()
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()
    leader = next(line for line in lines if " leader: attempt " in line)
    training = next(line for line in lines if " Landlock " in line)
    return _moment(leader), _moment(training)


def _moment(line: str) -> datetime:
    return datetime.fromisoformat(line.split(" ", 1)[0])


def rounds(url: str, workflow: bytes, count: int) -> Iterator[dict[str, float]]:
    """Milliseconds by name, one dict for each posted workflow."""
    for _ in range(count):
        sent = datetime.now(UTC)
        task_id = ask(f"{url}/api/train", body=workflow)["task_id"]
        while (task := ask(f"{url}/api/tasks/{task_id}"))["status"] in {"pending", "running"}:
            time.sleep(0.2)
        created = datetime.fromisoformat(task["created_at"])
        leader, training = first_lines(url, task_id)
        yield {
            "created → claimed": (leader - created).total_seconds() * 1000,
            "created → training": (training - created).total_seconds() * 1000,
            "request sent → training": (training - sent).total_seconds() * 1000,
        }
        # The worker has to be idle again: it looks around after a task.
        time.sleep(1)


def main() -> None:
    """All rounds, then a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workflow", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    found = list(rounds(options.url, options.workflow.read_bytes(), options.count))
    for name in found[0]:
        values = sorted(one[name] for one in found)
        p99 = values[int(0.99 * (len(values) - 1))]
        print(  # noqa: T201
            f"{name}: p50 {statistics.median(values):.0f} ms, p99 {p99:.0f} ms,"
            f" largest {values[-1]:.0f} ms of {len(values)}"
        )


if __name__ == "__main__":
    main()

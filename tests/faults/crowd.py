"""Ten thousand tasks that wait: made, counted and cancelled by the lifecycle, in a process apart.

python -m tests.faults.crowd make NUMBER TASK    # each like that task, and less urgent
python -m tests.faults.crowd count
python -m tests.faults.crowd cancel
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tests.e2e.platform_processes import CHECKOUT, Platform

SIZE = 10_000
NAME = "one of a crowd"
BATCH = 500
"""Tasks in one transaction: a commit each would take a minute of waiting for the disk."""


def run(platform: Platform, *arguments: str) -> str:
    """Run this module on the platform's database; what it prints. Raises: AssertionError."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.crowd", *arguments],
        cwd=CHECKOUT,
        env={**platform.environment, "DJANGO_SETTINGS_MODULE": "qlibplatform.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return done.stdout.strip()


def batches(things: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(things)
    while batch := list(islice(rest, BATCH)):
        yield batch


def make(number: int, like: str) -> None:
    from django.db import transaction

    from training import lifecycle
    from training.models import TrainingTask
    from training.states import Priority

    names = ("owner_id", "dataset", "dataset_version", "model", "posted", "config", "queue")
    first = TrainingTask.objects.values(*names, "threads", "timeout_s").get(pk=like)
    for batch in batches(range(number)):
        with transaction.atomic():
            for _ in batch:
                task = TrainingTask(**first, name=NAME, priority=Priority.LOW)
                lifecycle.create(task)


def cancel() -> None:
    """All that are not final yet; what a worker has taken is asked to stop."""
    from django.db import transaction

    from training import lifecycle
    from training.errors import AlreadyFinished
    from training.models import TrainingTask

    rows = TrainingTask.objects.filter(name=NAME, completed_at=None)
    for batch in batches(list(rows.values_list("id", flat=True))):
        with transaction.atomic():
            for task_id in batch:
                try:
                    lifecycle.request_cancel(task_id)
                except AlreadyFinished:
                    continue


def main(what: str, *arguments: str) -> None:
    import django

    django.setup()
    if what == "make":
        make(int(arguments[0]), arguments[1])
    elif what == "cancel":
        cancel()
    else:
        from training.models import TrainingTask

        print(TrainingTask.objects.filter(name=NAME).count())  # noqa: T201


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")
    main(*sys.argv[1:])

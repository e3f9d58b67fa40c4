"""Times the API over a hundred tasks, then over a million with twenty events each, on PostgreSQL.

    python tests/postgres.py python -m tests.benchmarks.million --tasks 1000000 --events 20

Fills the database by SQL, then calls the API in this process: no server, no network. Prints the
median and the 95th hundredth of each call in milliseconds, for both sizes. Needs 15 GB of disk
for the million, which go with the server.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")
os.environ.setdefault("PLATFORM_ALLOWED_HOSTS", "testserver")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from tests import factories  # noqa: E402
from training import tokens  # noqa: E402
from training.work import reconcile  # noqa: E402

OWNERS = 100

TASKS = """
INSERT INTO training_trainingtask (
  id, owner_id, name, tags, dataset, dataset_version, model, posted, config, warnings, status,
  stage, progress, message, result, error, error_code, queue, needs, priority, threads, timeout_s,
  worker, attempt, max_attempts, losses, pinned, last_seq, created_at, started_at, completed_at,
  ic, icir, rank_ic, rank_icir, annualized_return, information_ratio, max_drawdown
)
SELECT 'task-' || md5(n::text)::uuid, %(first_owner)s + n %% %(owners)s, 'study ' || n %% 5000,
  '["nightly"]', CASE WHEN n %% 3 = 0 THEN 'cn_data' ELSE 'us_data' END, 'v1',
  (ARRAY['LGBModel','XGBModel','CatBoostModel','LinearModel','GRU'])[1 + n %% 5], repeat('x', 900),
  jsonb_build_object('task', jsonb_build_object('text', repeat('x', 900))), '[]',
  CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'completed' END, 'save', 100, 'done',
  '{"metrics": {"ic": 0.03}}', '', '', 'cpu', '', 1, 2, 21600, 'worker-1', 1, 2, 0, false,
  %(events)s, now() - n * interval '20 seconds', now() - n * interval '19 seconds',
  now() - n * interval '10 seconds',
  random() / 10, random(), random() / 10, random(), random(), random(), -random()
FROM generate_series(%(begin)s, %(end)s) AS n
"""

EVENTS = """
INSERT INTO training_taskevent
  (task_id, seq, attempt, kind, status, stage, progress, message, data, at)
SELECT 'task-' || md5(n::text)::uuid, seq, 1,
  CASE seq WHEN 1 THEN 'created' WHEN 2 THEN 'started'
    WHEN %(events)s THEN 'completed' ELSE 'progress' END,
  CASE seq WHEN 1 THEN 'pending' WHEN %(events)s THEN 'completed' ELSE 'running' END,
  'fit', seq, 'round ' || seq, '{}', now() - n * interval '20 seconds' + seq * interval '1 second'
FROM generate_series(%(begin)s, %(end)s) AS n, generate_series(1, %(events)s) AS seq
"""

TAGS = """
INSERT INTO training_tasktag (task_id, name)
SELECT 'task-' || md5(n::text)::uuid, CASE WHEN n %% 1000 = 0 THEN 'rare' ELSE 'nightly' END
FROM generate_series(%(begin)s, %(end)s) AS n
"""

BATCH = 50_000
CALLS = {
    "list": "/api/tasks?limit=20",
    "list, status": "/api/tasks?limit=20&status=failed",
    "list, model": "/api/tasks?limit=20&model=GRU",
    "list, dataset": "/api/tasks?limit=20&dataset=cn_data",
    "list, no such model": "/api/tasks?limit=20&model=Absent",
    "list, owner": "/api/tasks?limit=20&owner=owner7",
    "list, tag": "/api/tasks?limit=20&tag=nightly",
    "list, rare tag": "/api/tasks?limit=20&tag=rare",
    "list, name": "/api/tasks?limit=20&q=study 1",
    "list, no such name": "/api/tasks?limit=20&q=absent",
    "list, days": "/api/tasks?limit=20&created_after=2026-11-01T00:00:00Z",
    "list, best first": "/api/tasks?limit=20&ordering=-rank_ic",
    "list, worst first": "/api/tasks?limit=20&ordering=max_drawdown",
    "task": "/api/tasks/{task}",
    "events": "/api/tasks/{task}/events?after=0",
}


def fill(begin: int, end: int, *, events: int) -> None:
    """Tasks of these numbers, by batches; foreign keys are right by construction, not checked."""
    first = User.objects.order_by("pk").values_list("pk", flat=True).filter(username="owner0").get()
    about = {"first_owner": first, "owners": OWNERS, "events": events}
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET session_replication_role = replica")
        for start in range(begin, end + 1, BATCH):
            batch = {**about, "begin": start, "end": min(start + BATCH - 1, end)}
            for statement in (TASKS, TAGS, EVENTS):
                cursor.execute(statement, batch)
            sys.stderr.write(f"{batch['end']} tasks\n")
        cursor.execute("SET session_replication_role = origin")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SET statement_timeout = 10000")


def measure(*, rounds: int) -> dict[str, Any]:
    """Median and 95th hundredth of each call, in milliseconds."""
    staff = User.objects.get(username="staff")
    client = Client(headers={"Authorization": f"Bearer {tokens.create(staff)}"})
    middle = client.get("/api/tasks?limit=1").json()["results"][0]["id"]
    told = {}
    for name, url in CALLS.items():
        told[name] = _timed(lambda url=url: client.get(url.format(task=middle)), rounds)
    deep = _deep(client)
    told["list, page 50"] = _timed(lambda: client.get(deep), rounds)
    told["reconcile"] = _timed(reconcile.expire_leases, rounds)
    return told


def _deep(client: Client) -> str:
    url = "/api/tasks?limit=20"
    for _ in range(49):
        url = client.get(url).json()["next"] or url
    return url


def _timed(call: Callable[[], Any], rounds: int) -> list[float]:
    took = sorted(_durations(call, rounds))
    return [round(statistics.median(took), 1), round(took[int(len(took) * 0.95)], 1)]


def _durations(call: Callable[[], Any], rounds: int) -> Iterator[float]:
    call()
    for _ in range(rounds):
        began = time.perf_counter()
        answer = call()
        yield (time.perf_counter() - began) * 1e3
        if getattr(answer, "status_code", 200) != 200:
            raise SystemExit(f"{answer.status_code}: {answer.content[:300]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    call_command("migrate", verbosity=0)
    User.objects.bulk_create(User(username=f"owner{number}") for number in range(OWNERS))
    User.objects.create_user("staff", is_staff=True)
    factories.make_dataset()
    fill(1, 100, events=asked.events)
    few = measure(rounds=asked.rounds)
    fill(101, asked.tasks, events=asked.events)
    many = measure(rounds=asked.rounds)
    for name in few:
        told = {"call": name, "100": few[name], str(asked.tasks): many[name]}
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()

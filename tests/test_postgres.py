"""The database's part of the suite, once more, on PostgreSQL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres

HERE = Path(__file__).parent
PARTS = ("core", "api", "live", "admin", "dashboard")


@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_core_api_sockets_admin_and_pages_pass_on_postgresql_too():
    parts = [str(HERE / part) for part in PARTS if (HERE / part).exists()]
    chosen = "not redis and not qlib and not e2e and not postgres"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", chosen]

    with postgres.running() as url:
        environment = {**os.environ, "PLATFORM_DATABASE_URL": url}
        done = subprocess.run(
            [*command, *parts], env=environment, capture_output=True, text=True, check=False
        )

    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout

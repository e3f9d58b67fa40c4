"""A death at any boundary of any move breaks no promise: `crash_points.py`, `CRASH_ROUNDS=5`."""

import os
import re
from pathlib import Path

import pytest

from tests.faults import apart

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.mark.timeout(900 + 200 * ROUNDS)
@pytest.mark.parametrize("database", DATABASES)
def test_a_death_at_any_boundary_leaves_a_task_that_comes_to_its_end(database: str, tmp_path: Path):
    if database == "postgresql" and "CRASH_ROUNDS" not in os.environ:
        pytest.skip("set CRASH_ROUNDS to die on PostgreSQL too")

    told = apart.run("tests.faults.crash_points", str(ROUNDS), database=database, place=tmp_path)

    counts = dict(re.findall(r"^([\w-]+): (\d+) points", told, re.MULTILINE))
    assert sum(map(int, counts.values())) > 150
    for boundary in ("UPDATE", "INSERT", "commit", "announcement", "ring", "rename"):
        assert f"before {boundary}" in told
        assert f"after {boundary}" in told
    assert told.endswith("deaths, no violation\n")

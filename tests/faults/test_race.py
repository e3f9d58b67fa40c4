"""Who wins when eight processes act on one task at once: `race.py`; `RACE_ROUNDS=200` for more."""

import os
from pathlib import Path

import pytest

from tests.faults import apart

ROUNDS = int(os.environ.get("RACE_ROUNDS", "20"))

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.mark.timeout(600 + 10 * ROUNDS)
@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def test_of_eight_who_act_at_once_one_wins_and_nothing_is_broken(database: str, tmp_path: Path):
    told = apart.run("tests.faults.race", str(ROUNDS), database=database, place=tmp_path)

    assert told.startswith(f"{ROUNDS} rounds, {3 * ROUNDS} tasks")

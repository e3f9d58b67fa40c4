"""The file of scores and positions, written by the engine and read as the web reads it."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.factories import make_task
from training import archive
from training import outcomes as read
from training.engine import outcomes
from training.states import Status

DAYS = pd.to_datetime(["2018-01-30", "2018-01-31"])


def frame(values, *, levels=("datetime", "instrument"), column="score"):
    index = pd.MultiIndex.from_product([DAYS, ["BBB", "AAA"]], names=["datetime", "instrument"])
    return pd.DataFrame({column: np.array(values, dtype=float)}, index=index).reorder_levels(levels)


def position(**held):
    inside = {
        name: {"amount": np.float64(amount), "price": 2.0, "weight": 0.4, "count_day": 1}
        for name, amount in held.items()
    }
    return SimpleNamespace(position={"cash": 60.0, "now_account_value": 100.0, **inside})


@pytest.fixture
def task(owner):
    task = make_task(owner, status=Status.COMPLETED)
    archive.folder(task).mkdir(parents=True)
    return task


def write(task, **changes):
    given = {"prediction": frame([1, 2, 4, 3]), "label": None, "positions": None} | changes
    outcomes.write(archive.folder(task) / read.FILE, **given)


@pytest.mark.parametrize("levels", [("datetime", "instrument"), ("instrument", "datetime")])
def test_scores_are_read_as_they_were_predicted(task, levels):
    label = frame([0.1, math.nan, 0.3, 0.4], column="LABEL0")
    write(task, prediction=frame([1, 2, 4, 3], levels=levels), label=label)

    first = read.scores(task, date="2018-01-30", instrument=None)
    of_one = read.scores(task, date=None, instrument="AAA")

    assert first.rows == [("2018-01-30", "AAA", 2.0, None, 1), ("2018-01-30", "BBB", 1.0, 0.1, 2)]
    assert [row[2:] for row in of_one.rows] == [(2.0, None, 1), (3.0, 0.4, 2)]
    assert read.days(task) == ["2018-01-30", "2018-01-31"]


def test_a_score_that_is_not_a_number_is_left_out(task):
    write(task, prediction=frame([1, math.nan, 4, 3]))

    assert len(read.scores(task, date="2018-01-30", instrument=None).rows) == 1


def test_positions_and_the_account_are_read_as_qlib_kept_them(task):
    held = {DAYS[0]: position(), DAYS[1]: position(AAA=10, ZZZ=5)}
    write(task, positions=held)

    found = read.positions(task, date="2018-01-31", instrument=None)

    assert found.rows == [
        ("2018-01-31", "AAA", 10.0, 2.0, 0.4),
        ("2018-01-31", "ZZZ", 5.0, 2.0, 0.4),
    ]
    assert read.account(task, "2018-01-31") == {"cash": 60.0, "value": 100.0}
    assert outcomes.holdings_series(held) == {
        "days": ["2018-01-30", "2018-01-31"],
        "count": [0, 2],
        "cash_share": [0.6, 0.6],
    }

"""Correlations of predictions, against pandas' own."""

import numpy as np
import pandas as pd
import pytest

from training.engine.comparison import correlations

DAYS = pd.date_range("2018-01-01", periods=5, name="datetime")
NAMES = [f"S{number}" for number in range(8)]


def write(path, values):
    index = pd.MultiIndex.from_product([DAYS, NAMES], names=["datetime", "instrument"])
    pd.Series(values, index=index, name="score").reset_index().to_parquet(path)
    return path


@pytest.fixture
def files(tmp_path):
    draw = np.random.default_rng(3)
    first = draw.normal(size=40)
    return {
        "a": write(tmp_path / "a.parquet", first),
        "cubed": write(tmp_path / "b.parquet", first**3),
        "against": write(tmp_path / "c.parquet", -first),
        "other": write(tmp_path / "d.parquet", first + draw.normal(size=40)),
    }


def test_means_of_the_days_correlations_are_those_of_pandas(files):
    found = correlations(files)

    read = {name: pd.read_parquet(path).set_index("datetime") for name, path in files.items()}
    by_day = [
        [
            read["a"]
            .loc[day, "score"]
            .reset_index(drop=True)
            .corr(read["other"].loc[day, "score"].reset_index(drop=True), method=method)
            for day in DAYS
        ]
        for method in ("pearson", "spearman")
    ]
    assert found["pearson"][0][3] == pytest.approx(np.mean(by_day[0]))
    assert found["rank"][0][3] == pytest.approx(np.mean(by_day[1]))
    assert found["tasks"] == ["a", "cubed", "against", "other"]
    assert found["days"] == [[5] * 4] * 4


def test_ranks_see_through_a_monotone_change_and_signs_turn(files):
    found = correlations(files)

    assert found["rank"][0][1] == pytest.approx(1)
    assert found["pearson"][0][1] < 0.999
    assert found["pearson"][0][2] == pytest.approx(-1)
    assert found["pearson"][2][0] == found["pearson"][0][2]


def test_only_common_days_count_and_nothing_in_common_is_null(files, tmp_path):
    later = pd.read_parquet(files["a"])
    later["datetime"] += pd.Timedelta(days=3)
    later.to_parquet(tmp_path / "later.parquet")
    far = later.assign(datetime=later["datetime"] + pd.Timedelta(days=99))
    far.to_parquet(tmp_path / "far.parquet")

    found = correlations(
        {"a": files["a"], "later": tmp_path / "later.parquet", "far": tmp_path / "far.parquet"}
    )

    assert found["days"][0] == [5, 2, 0]
    assert found["pearson"][0][2] is None


def test_a_constant_prediction_is_like_nothing(files, tmp_path):
    flat = write(tmp_path / "flat.parquet", np.zeros(40))

    assert correlations({"a": files["a"], "flat": flat})["pearson"][0][1] == 0.0

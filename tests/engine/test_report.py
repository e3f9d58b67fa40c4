"""The report's numbers, against figures worked out by hand or by Qlib's own functions."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from training.engine import report

DAYS = pd.to_datetime(["2018-01-30", "2018-01-31", "2018-02-01"]).rename("datetime")


def by_day_and_instrument(rows):
    index = pd.MultiIndex.from_product(
        [DAYS[: len(rows)], [f"S{n}" for n in range(len(rows[0]))]],
        names=["datetime", "instrument"],
    )
    return pd.Series(np.ravel(rows).astype(float), index=index)


@pytest.fixture
def daily():
    columns = {
        "return": [0.03, -0.05, 0.01],
        "cost": [0.01, 0.0, 0.01],
        "bench": [0.01, 0.0, 0.02],
        "turnover": [1.0, math.nan, 0.2],
    }
    return pd.DataFrame(columns, index=DAYS)


def test_returns_are_added_up_with_and_without_cost_and_against_the_benchmark(daily):
    series = report.portfolio_series(daily)

    assert series["days"] == ["2018-01-30", "2018-01-31", "2018-02-01"]
    assert series["return_without_cost"] == pytest.approx([0.03, -0.02, -0.01])
    assert series["return_with_cost"] == pytest.approx([0.02, -0.03, -0.03])
    assert series["benchmark"] == pytest.approx([0.01, 0.01, 0.03])
    assert series["excess_with_cost"] == pytest.approx([0.01, -0.04, -0.06])


def test_drawdown_is_the_distance_below_the_highest_sum_so_far(daily):
    series = report.portfolio_series(daily)

    assert series["drawdown_with_cost"] == pytest.approx([0.0, -0.05, -0.07])
    assert series["drawdown_without_cost"] == pytest.approx([0.0, -0.05, -0.06])


@pytest.mark.qlib
def test_the_lowest_drawdown_is_the_one_that_qlib_reports(daily):
    from qlib.contrib.evaluate import risk_analysis

    excess = daily["return"] - daily["bench"] - daily["cost"]
    by_qlib = risk_analysis(excess, freq="day")["risk"]["max_drawdown"]

    assert min(report.portfolio_series(daily)["drawdown_with_cost"]) == pytest.approx(by_qlib)


def test_a_number_that_is_not_finite_becomes_null(daily):
    assert report.portfolio_series(daily)["turnover"] == [1.0, None, 0.2]
    assert report.numbers([math.inf, -math.inf, 1]) == [None, None, 1.0]


def test_ic_by_month_is_the_mean_of_its_days():
    ic = pd.Series([0.1, 0.3, math.nan], index=DAYS)

    series = report.ic_series(ic, rank_ic=ic * 2)

    assert series["ic"] == [0.1, 0.3, None]
    assert series["by_month"]["months"] == ["2018-01", "2018-02"]
    assert series["by_month"]["ic"] == [pytest.approx(0.2), None]
    assert series["by_month"]["rank_ic"] == [pytest.approx(0.4), None]


def test_groups_are_fifths_by_score_best_first_and_their_returns_add_up():
    score = by_day_and_instrument([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5]])
    label = by_day_and_instrument([[0.05, 0.04, 0.03, 0.02, 0.01], [0.1, 0, 0, 0, 0.2]])

    series = report.group_returns(score, label)

    assert series["groups"]["1"] == pytest.approx([0.05, 0.25])
    assert series["groups"]["5"] == pytest.approx([0.01, 0.11])
    assert series["long_short"] == pytest.approx([0.04, 0.14])
    assert series["long_average"] == pytest.approx([0.02, 0.02 + 0.2 - 0.06])


def test_a_row_without_a_label_is_in_no_group():
    score = by_day_and_instrument([[6, 5, 4, 3, 2, 1]])
    label = by_day_and_instrument([[math.nan, 0.05, 0.04, 0.03, 0.02, 0.01]])

    series = report.group_returns(score, label)

    assert series["groups"]["1"] == pytest.approx([0.05])


class BareColumns:
    """A booster that was given a bare array."""

    def __init__(self, importance):
        self.importance = importance

    def get_feature_importance(self):
        return pd.Series(self.importance)


def test_features_get_their_names_back_and_the_most_important_is_first():
    model = BareColumns({"Column_0": 1, "Column_2": 7, "Column_1": 3})

    importance = report.feature_importance(model, ["KMID", "ROC5", "STD5"])

    assert importance["features"] == ["STD5", "ROC5", "KMID"]
    assert importance["values"] == [7.0, 3.0, 1.0]


def test_a_linear_model_shows_its_coefficients_by_size():
    class Linear:
        coef_ = np.array([0.1, -0.5])

    importance = report.feature_importance(Linear(), ["KMID", "ROC5"])

    assert importance["kind"] == "coefficient"
    assert importance["features"] == ["ROC5", "KMID"]
    assert importance["values"] == [-0.5, 0.1]


def test_a_model_that_cannot_tell_has_no_importance():
    assert report.feature_importance(object(), ["KMID"]) is None


def test_predictions_are_sorted_columns_of_day_instrument_and_score(tmp_path):
    score = by_day_and_instrument([[1, 2], [3, 4]]).iloc[::-1].to_frame("score")

    report.write_predictions(score, tmp_path / "predictions.parquet")

    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(table.columns) == ["datetime", "instrument", "score"]
    assert table["score"].tolist() == [1, 2, 3, 4]
    assert table["instrument"].tolist() == ["S0", "S1", "S0", "S1"]


def test_the_whole_report_is_json(daily):
    parts = [report.portfolio_series(daily), report.ic_series(daily["bench"], daily["turnover"])]

    assert json.loads(json.dumps(parts, allow_nan=False)) == parts

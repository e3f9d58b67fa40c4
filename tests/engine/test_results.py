"""Qlib's metrics by our stable names."""

import logging
import math

import pytest

from training.engine.results import flat_metrics, mentions, metric_name, versions


@pytest.mark.parametrize(
    ("qlib_name", "name"),
    [
        ("IC", "ic"),
        ("Rank ICIR", "rank_icir"),
        ("Long-Short Ann Return", "long_short_ann_return"),
        ("1day.excess_return_with_cost.annualized_return", "annualized_return"),
        ("1day.excess_return_without_cost.max_drawdown", "max_drawdown_without_cost"),
        ("1day.excess_return_with_cost.mean", "excess_return_mean"),
        ("30minute.excess_return_with_cost.std", "30minute_excess_return_std"),
        ("mean.excess_return_with_cost.annualized_return", "annualized_return_mean"),
        (
            "mean_std.excess_return_without_cost.information_ratio",
            "information_ratio_mean_std_without_cost",
        ),
        ("1day.ffr", "ffr"),
        ("30minute.pa", "30minute_pa"),
    ],
)
def test_a_metric_of_qlib_has_one_flat_name(qlib_name, name):
    assert metric_name(qlib_name, main_frequency="1day") == name


def test_the_first_frequency_is_the_one_without_a_prefix():
    recorded = {"30minute.ffr": 1.0, "1day.ffr": 0.5}

    assert flat_metrics(recorded) == {"ffr": 1.0, "1day_ffr": 0.5}


def test_what_is_not_finite_is_absent_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        metrics = flat_metrics({"IC": 0.1, "ICIR": math.nan, "1day.pa": math.inf})

    assert metrics == {"ic": 0.1}
    assert "icir is nan" in caplog.text
    assert "pa is inf" in caplog.text


def test_a_placeholder_is_found_however_deep_it_is():
    config = [{"kwargs": {"config": {"strategy": {"signal": ["<MODEL>", "<DATASET>"]}}}}]

    assert mentions(config, "<DATASET>")
    assert not mentions(config, "<PRED>")
    assert not mentions([1, None, "DATASET"], "<DATASET>")


def test_the_versions_name_the_models_own_library():
    found = versions("qlib.contrib.model.linear")

    assert found["scikit-learn"]
    assert found["qlib"].startswith("0.9")
    assert "xgboost" not in found

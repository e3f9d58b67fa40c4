"""What a workflow's figures rest on."""

import pytest

from training import basis


def with_handler(handler):
    return {"task": {"dataset": {"kwargs": {"handler": handler}}}}


def with_label(label):
    return with_handler({"class": "Alpha158", "kwargs": {"label": label}})


@pytest.mark.parametrize(
    "label",
    [
        "Ref($close, -2)/Ref($close, -1) - 1",
        ["Ref($close, -2) / Ref($close, -1) - 1"],
        [["Ref($vwap,-11)/Ref($vwap,-1)-1"], ["LABEL0"]],
        ["Ref($open, -1)/$close - 1.0"],
        ["(Ref($close, -2)/Ref($close, -1)) - 1"],
    ],
)
def test_a_later_price_by_an_earlier_one_less_one_is_a_return(label):
    assert basis.label_is_return(with_label(label))


@pytest.mark.parametrize(
    "label",
    [
        [["Ref($close,-5)"], ["LABEL0"]],
        "Ref($close, -2)/Ref($close, -1)",
        "Ref($volume, -2)/Ref($volume, -1) - 1",
        "Log(Ref($close, -2)/Ref($close, -1)) - 1",
        "Ref($close, -2)/Ref($close, -1) - 10",
        [],
        7,
    ],
)
def test_anything_else_is_none(label):
    assert not basis.label_is_return(with_label(label))


def test_a_handlers_own_label_is_known_and_a_loaders_is_read():
    loader = {"class": "QlibDataLoader", "kwargs": {"config": {"label": ["Ref($close,-1)"]}}}

    assert basis.label_is_return(with_handler({"class": "Alpha360", "kwargs": {}}))
    assert not basis.label_is_return(with_handler({"class": "DataHandlerLP", "kwargs": {}}))
    assert not basis.label_is_return(
        with_handler({"class": "DataHandlerLP", "kwargs": {"data_loader": loader}})
    )
    assert not basis.label_is_return({})


def test_a_backtest_is_told_as_far_as_the_config_says_it():
    asked = {
        "strategy": {"class": "TopkDropoutStrategy", "kwargs": {"topk": 50, "n_drop": 5}},
        "backtest": {"benchmark": "SH000300", "exchange_kwargs": {"open_cost": 0.0005}},
    }
    record = [{"class": "SignalRecord"}, {"class": "PortAnaRecord", "kwargs": {"config": asked}}]

    assert basis.backtest({"task": {"record": record}}) == {
        "benchmark": "SH000300",
        "strategy": "TopkDropoutStrategy",
        "topk": 50,
        "n_drop": 5,
        "open_cost": 0.0005,
    }
    assert basis.backtest({"task": {"record": {"class": "SignalRecord"}}}) == {}
    assert basis.backtest({}) == {}

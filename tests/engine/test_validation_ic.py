"""The IC of each round: Qlib's number, at a bounded price, and the fit none the wiser. No store."""

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.qlib
progress = pytest.importorskip("training.engine.progress")

from qlib.contrib.eva.alpha import calc_ic  # noqa: E402
from qlib.data.dataset.handler import DataHandlerLP  # noqa: E402

from training.engine.curves import Curves  # noqa: E402
from training.engine.progress_boosters import watched_boosters  # noqa: E402
from training.engine.validation_ic import FREE_S, DailyIC, ValidationIC  # noqa: E402

DAYS, NAMES = 60, 12
TRAIN = DAYS * NAMES // 2


class Reporter:
    def __init__(self):
        self.points = []

    def progress(self, done, total, *, unit, message=""):
        pass

    def metrics(self, points):
        self.points += points

    def order(self):
        return None


class Dataset:
    """What Qlib's DatasetH says of its validation segment, given the whole table."""

    segments = {"train": None, "valid": None}

    def __init__(self, learned, raw):
        self.frames = {DataHandlerLP.DK_L: learned, DataHandlerLP.DK_R: raw}

    def prepare(self, segment, *, col_set, data_key):
        assert (segment, col_set) == ("valid", "label")
        if self.frames[data_key] is None:
            raise AttributeError("_data")
        return self.frames[data_key].iloc[TRAIN:]


class Clock:
    """Moves on by `step` seconds at each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def market():
    """Features, and a raw label with gaps; what is learned is its rank in the day."""
    generator = np.random.default_rng(7)
    dates = pd.date_range("2020-01-01", periods=DAYS)
    index = pd.MultiIndex.from_product([dates, range(NAMES)], names=["datetime", "instrument"])
    features = generator.normal(size=(len(index), 4))
    raw = pd.DataFrame({"LABEL0": features[:, 0] + generator.normal(size=len(index))}, index=index)
    learned = raw.groupby(level="datetime").rank(pct=True)
    return features, learned, raw


@pytest.mark.filterwarnings("ignore:An input array is constant", "ignore:invalid value")
def test_ic_and_rank_ic_are_those_of_qlib_also_with_ties_gaps_and_days_that_say_nothing():
    generator = np.random.default_rng(1)
    dates = pd.date_range("2020-01-01", periods=40)
    index = pd.MultiIndex.from_product([dates, range(9)], names=["datetime", "instrument"])
    index = index[generator.permutation(len(index))]
    label = pd.Series(np.round(generator.normal(size=len(index)), 1), index=index)
    label[generator.random(len(index)) < 0.2] = np.nan
    prediction = pd.Series(np.round(generator.normal(size=len(index)), 1), index=index)
    prediction[index.get_level_values(0) == dates[3]] = 0.5

    ours = DailyIC(index.get_level_values(0).to_numpy(), label.to_numpy()).means(
        prediction.to_numpy()
    )

    known = label.notna()
    ic, rank_ic = calc_ic(prediction[known], label[known])
    assert ours == pytest.approx((ic.mean(), rank_ic.mean()), abs=1e-12)
    assert ic.isna().sum() == 1


def test_the_same_value_on_two_days_is_no_tie():
    dates = np.array([1, 1, 1, 2, 2, 2])
    label = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 6.0])

    touching = DailyIC(dates, label).means(np.array([1.0, 2.0, 3.0, 3.0, 4.0, 5.0]))
    apart = DailyIC(dates, label).means(np.array([1.0, 2.0, 3.0, 30.0, 40.0, 50.0]))

    assert touching[1] == pytest.approx(apart[1]) == pytest.approx(0.5)


def fit_lightgbm(market, ic):
    lightgbm = pytest.importorskip("lightgbm")
    features, learned, _ = market
    label = learned["LABEL0"].to_numpy()
    train = lightgbm.Dataset(features[:TRAIN], label=label[:TRAIN])
    valid = lightgbm.Dataset(features[TRAIN:], label=label[TRAIN:])
    reporter = Reporter()
    params = {"objective": "mse", "verbosity": -1, "num_threads": 1, "bagging_fraction": 0.7}
    with watched_boosters(object(), progress.FitWatch(reporter, Curves(reporter)), ic):
        booster = lightgbm.train(
            {**params, "bagging_freq": 1, "min_data_in_leaf": 5},
            train,
            num_boost_round=12,
            valid_sets=[train, valid],
            valid_names=["train", "valid"],
        )
    return booster.model_to_string(), booster.predict(features[TRAIN:]), reporter.points


def fit_xgboost(market, ic):
    xgboost = pytest.importorskip("xgboost")
    features, learned, _ = market
    label = learned["LABEL0"].to_numpy()
    train = xgboost.DMatrix(features[:TRAIN], label=label[:TRAIN])
    valid = xgboost.DMatrix(features[TRAIN:], label=label[TRAIN:])
    reporter = Reporter()
    with watched_boosters(object(), progress.FitWatch(reporter, Curves(reporter)), ic):
        booster = xgboost.train(
            {"nthread": 1, "subsample": 0.7, "max_depth": 4},
            train,
            num_boost_round=12,
            evals=[(train, "train"), (valid, "valid")],
            verbose_eval=False,
        )
    return bytes(booster.save_raw()), booster.predict(valid), reporter.points


@pytest.mark.parametrize("fit", [fit_lightgbm, fit_xgboost])
def test_a_measured_fit_ends_with_the_model_of_an_unmeasured_one(market, fit):
    _, learned, raw = market

    model, _, points = fit(market, ValidationIC(Dataset(learned, raw)))

    unmeasured, _, plain_points = fit(market, ValidationIC(object()))
    assert model == unmeasured
    assert [point for point in points if not point[0].endswith("ic")] == plain_points


@pytest.mark.parametrize("fit", [fit_lightgbm, fit_xgboost])
def test_the_last_rounds_ic_is_that_of_the_fitted_model_against_the_raw_label(market, fit):
    _, learned, raw = market

    _, prediction, points = fit(market, ValidationIC(Dataset(learned, raw), clock=lambda: 0.0))

    valid = raw["LABEL0"].iloc[TRAIN:]
    ic, rank_ic = calc_ic(pd.Series(prediction, index=valid.index), valid)
    last = {name: value for name, step, value in points if step == 12}
    assert last["valid_ic"] == pytest.approx(ic.mean(), abs=1e-6)
    assert last["valid_rank_ic"] == pytest.approx(rank_ic.mean(), abs=1e-6)
    assert [step for name, step, _ in points if name == "valid_ic"] == list(range(1, 13))


def test_rounds_that_would_cost_more_than_their_share_have_no_value(market):
    _, learned, raw = market
    # Each look at the clock takes longer than measuring may in all.
    ic = ValidationIC(Dataset(learned, raw), clock=Clock(FREE_S * 1.5))

    _, _, points = fit_lightgbm(market, ic)

    assert [step for name, step, _ in points if name == "valid_ic"] == [1]


@pytest.mark.parametrize("missing", ["raw label", "order of rows", "validation segment"])
def test_what_is_not_surely_the_segment_is_not_measured(market, missing):
    _, learned, raw = market
    dataset = Dataset(learned, raw)
    if missing == "raw label":
        dataset.frames[DataHandlerLP.DK_R] = None
    if missing == "order of rows":
        dataset.frames[DataHandlerLP.DK_L] = pd.concat(
            [learned.iloc[:TRAIN], learned.iloc[TRAIN:].iloc[::-1]]
        )
    if missing == "validation segment":
        dataset.segments = {"train": None}

    _, _, points = fit_lightgbm(market, ValidationIC(dataset))

    assert {name for name, _, _ in points} == {"train.l2", "valid.l2"}

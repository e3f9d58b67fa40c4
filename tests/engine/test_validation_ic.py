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
from training.engine.progress_torch import _copied, watched_torch  # noqa: E402
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
    """What Qlib's DatasetH and its handler say of the segments, given the whole table."""

    def __init__(self, learned, raw, features=None):
        days = learned.index.get_level_values("datetime").unique()
        half = TRAIN // NAMES
        self.segments = {"train": (days[0], days[half - 1]), "valid": (days[half], days[-1])}
        self.segments["test"] = self.segments["valid"]
        self.frames = {DataHandlerLP.DK_L: learned, DataHandlerLP.DK_R: raw}
        self.features = features
        self.handler = self

    def fetch(self, segment, *, col_set, data_key):
        assert col_set == "label"
        if self.frames[data_key] is None:
            raise AttributeError("_data")
        is_valid = segment == slice(*self.segments["valid"])
        return self.frames[data_key].iloc[TRAIN:] if is_valid else self.frames[data_key]

    def prepare(self, segments, *, col_set, data_key):
        """Features and label as Qlib's networks ask for them."""
        label = self.frames[DataHandlerLP.DK_L]
        features = pd.DataFrame(self.features, index=label.index)
        whole = pd.concat({"feature": features, "label": label}, axis=1)
        parts = {"train": whole.iloc[:TRAIN], "valid": whole.iloc[TRAIN:]}
        parts["test"] = parts["valid"]
        return parts[segments] if isinstance(segments, str) else [parts[one] for one in segments]


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


LEFT_OUT = 8
"""Rows of the last, incomplete batch."""


def fit_torch(market, ic, name):
    torch = pytest.importorskip("torch")
    features, learned, raw = market
    dataset = Dataset(learned, raw, features)
    settings = {"GPU": -1, "seed": 3}
    if name == "mlp":
        from qlib.contrib.model.pytorch_nn import DNNModelPytorch

        kwargs = {"input_dim": 4, "layers": [8], "output_dim": 1}
        model = DNNModelPytorch(
            **{"max_steps": 4, "eval_steps": 2, "batch_size": 64, "scheduler": None},
            pt_model_kwargs=kwargs,
            **settings,
        )
    else:
        from qlib.contrib.model.pytorch_lstm import LSTM

        batch = (len(learned) - TRAIN - LEFT_OUT) // 4
        model = LSTM(
            **{"d_feat": 4, "hidden_size": 4, "num_layers": 1, "n_epochs": 1, "metric": "loss"},
            **{"batch_size": batch, **settings},
        )
    reporter = Reporter()
    with watched_torch(model, progress.FitWatch(reporter, Curves(reporter)), ic):
        model.fit(dataset, evals_result={})
    net = model.dnn_model if name == "mlp" else model.lstm_model
    net.eval()
    with torch.no_grad():
        predicted = net(torch.from_numpy(features[TRAIN:]).float()).numpy().ravel()
    assert not {"metric_fn", "get_metric"} & set(vars(model))
    return predicted, reporter.points, getattr(model, "best_step", 1)


class Recorder:
    def log_metrics(self, *_, **__):
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "steps"), [("mlp", [2, 4]), ("lstm", [1])])
def test_a_network_tells_the_ic_of_the_rows_that_it_validates(market, name, steps, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("qlib.contrib.model.pytorch_nn.R", Recorder())
    # Qlib's own wants fifty names a day.
    monkeypatch.setattr("qlib.contrib.model.pytorch_nn.ICLoss", lambda: lambda *_: torch.zeros(1))
    _, learned, raw = market
    ic = ValidationIC(Dataset(learned, raw), clock=lambda: 0.0)

    prediction, points, best = fit_torch(market, ic, name)

    unmeasured, *_ = fit_torch(market, ValidationIC(object()), name)
    assert np.array_equal(prediction, unmeasured)
    rows = slice(TRAIN, len(raw) - (LEFT_OUT if name == "lstm" else 0))
    valid = raw["LABEL0"].iloc[rows]
    expected, _ = calc_ic(pd.Series(prediction[: len(valid)], index=valid.index), valid)
    told = [(step, value) for one, step, value in points if one == "valid_ic"]
    assert [step for step, _ in told] == steps
    assert dict(told)[best] == pytest.approx(expected.mean(), abs=1e-6)


def test_rows_by_instrument_are_known_too(market):
    """As Qlib's datasets of series have them."""
    features, learned, raw = market
    dataset = Dataset(learned, raw)
    by_name = learned.iloc[TRAIN:].sort_index(level=["instrument", "datetime"])
    prediction = pd.Series(features[TRAIN:, 0], index=learned.index[TRAIN:])
    ic = ValidationIC(dataset, clock=lambda: 0.0)

    told = ic.of(
        lambda: prediction.reindex(by_name.index).to_numpy(),
        lambda: by_name["LABEL0"].to_numpy(np.float32),
    )

    expected, _ = calc_ic(prediction, raw["LABEL0"].iloc[TRAIN:])
    assert told["valid_ic"] == pytest.approx(expected.mean(), abs=1e-9)


@pytest.mark.parametrize("times", [0.5, 2])
def test_predictions_of_other_rows_than_the_first_time_are_not_measured(market, times):
    _, learned, raw = market
    ic = ValidationIC(Dataset(learned, raw), clock=lambda: 0.0)
    label = learned["LABEL0"].iloc[TRAIN:].to_numpy(np.float32)

    assert ic.of(lambda: label, lambda: label)

    assert ic.of(lambda: np.resize(label, int(len(label) * times)), lambda: label) == {}


def test_what_is_noted_of_a_batch_does_not_keep_the_batch():
    torch = pytest.importorskip("torch")
    batch = torch.rand(3, 4, 5)
    last = batch[:, -1, -1]

    noted, plain = _copied(last, last.numpy())

    assert np.array_equal(noted, last.numpy())
    assert np.array_equal(plain, last.numpy())
    assert not np.shares_memory(noted, batch.numpy())
    assert not np.shares_memory(plain, batch.numpy())


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

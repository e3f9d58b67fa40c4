"""What the libraries' loops make of our callbacks, and what those leave behind. No store."""

import math
import sys

import numpy as np
import pytest

from training.engine.reporter import Cancelled

pytestmark = pytest.mark.qlib
progress = pytest.importorskip("training.engine.progress")

from training.engine.curves import Curves, curve_name  # noqa: E402
from training.engine.progress_boosters import watched_boosters  # noqa: E402
from training.engine.progress_torch import observed_scores, watched_torch  # noqa: E402
from training.engine.validation_ic import ValidationIC  # noqa: E402


class FakeReporter:
    """Keeps what it is told; gives `op` from the `after`-th progress on."""

    def __init__(self, op=None, *, after=math.inf):
        self.op = op
        self.after = after
        self.told = []
        self.points = []

    def progress(self, done, total, *, unit, message=""):
        self.told.append((done, total, unit, message))
        if self.order() == "abort":
            raise Cancelled

    def metrics(self, points):
        self.points += points

    def order(self):
        return self.op if len(self.told) >= self.after else None


def watch_of(reporter):
    return progress.FitWatch(reporter, Curves(reporter))


def boosters_watched_by(reporter):
    return watched_boosters(object(), watch_of(reporter), ValidationIC(object()))


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 4))
    return features, features[:, 0] + generator.normal(size=400)


def train_lightgbm(table, reporter, *, rounds=20, callbacks=()):
    lightgbm = pytest.importorskip("lightgbm")
    train = lightgbm.Dataset(table[0][:300], label=table[1][:300])
    valid = lightgbm.Dataset(table[0][300:], label=table[1][300:])
    params = {"objective": "mse", "verbosity": -1, "num_threads": 1, "learning_rate": 0.9}
    with boosters_watched_by(reporter):
        return lightgbm.train(
            params,
            train,
            num_boost_round=rounds,
            valid_sets=[train, valid],
            valid_names=["train", "valid"],
            callbacks=list(callbacks),
        )


def test_lightgbm_finished_early_names_its_best_round_and_not_its_last(table):
    reporter = FakeReporter("finish", after=15)

    booster = train_lightgbm(table, reporter)

    valid = [value for name, _, value in reporter.points if name == "valid.l2"]
    assert len(reporter.told) == 15
    assert booster.best_iteration == int(np.argmin(valid)) + 1
    assert booster.best_iteration < 15


def test_the_library_is_itself_again_after_a_cancel(table):
    import lightgbm

    before = lightgbm.train

    with pytest.raises(Cancelled):
        train_lightgbm(table, FakeReporter("abort", after=2))

    assert lightgbm.train is before


def test_xgboost_finished_early_holds_only_the_rounds_up_to_the_best(table):
    xgboost = pytest.importorskip("xgboost")
    train = xgboost.DMatrix(table[0][:300], label=table[1][:300])
    valid = xgboost.DMatrix(table[0][300:], label=table[1][300:])
    reporter = FakeReporter("finish", after=15)

    with boosters_watched_by(reporter):
        booster = xgboost.train(
            {"eta": 0.9, "nthread": 1},
            train,
            num_boost_round=30,
            evals=[(train, "train"), (valid, "valid")],
            early_stopping_rounds=30,
            verbose_eval=False,
        )

    losses = [value for name, _, value in reporter.points if name == "valid.rmse"]
    assert reporter.told[-1][:3] == (15, 30, "iteration")
    assert booster.num_boosted_rounds() == int(np.argmin(losses)) + 1 < 15


def test_a_cancel_in_catboost_is_a_cancel_and_no_error_of_catboost(table, tmp_path):
    catboost = pytest.importorskip("catboost")
    params = {"iterations": 30, "verbose": False, "thread_count": 1, "train_dir": str(tmp_path)}
    reporter = FakeReporter("abort", after=3)

    with boosters_watched_by(reporter), pytest.raises(Cancelled):
        catboost.CatBoost(params).fit(*table)

    assert len(reporter.told) == 3


class EpochModel:
    """The loop of Qlib's torch models, without torch's work: scores are given, epoch by epoch."""

    early_stop = 20

    def __init__(self, scores):
        self.n_epochs = len(scores)
        self.scores = scores
        self.trained = self.begun = 0
        self.weights = self.best = None

    def train_epoch(self):
        self.trained += 1
        self.weights = self.trained

    def test_epoch(self):
        return -self.scores[self.trained - 1], self.scores[self.trained - 1]

    def fit(self, evals_result):
        best_score, stopped_for = -math.inf, 0
        evals_result["valid"] = []
        for _ in range(self.n_epochs):
            self.begun += 1
            self.train_epoch()
            self.test_epoch()
            _, score = self.test_epoch()
            evals_result["valid"].append(score)
            if score > best_score:
                best_score, self.best = score, self.weights
                continue
            stopped_for += 1
            if stopped_for >= self.early_stop:
                break


def fit_epochs(model, reporter):
    pytest.importorskip("torch.optim.optimizer")
    watch = watch_of(reporter)
    with watched_torch(model, watch, ValidationIC(object())):
        model.fit(observed_scores(watch))


def test_a_torch_loop_finished_early_trains_no_further_epoch_and_keeps_the_best():
    model = EpochModel([0.1, 0.5, 0.3, 0.9, 0.9, 0.9])
    reporter = FakeReporter("finish", after=3)

    fit_epochs(model, reporter)

    assert model.trained == model.begun == 3
    assert model.best == 2
    assert model.early_stop == 20


def test_a_torch_loop_finished_in_its_first_epoch_still_has_a_best():
    model, reporter = EpochModel([0.1, 0.5]), FakeReporter("finish", after=1)

    fit_epochs(model, reporter)

    assert (model.trained, model.best) == (1, 1)


def test_a_torch_loop_reports_epochs_losses_and_scores_and_leaves_no_trace_in_the_model():
    model, reporter = EpochModel([0.1, 0.5]), FakeReporter()

    fit_epochs(model, reporter)

    assert [told[:3] for told in reporter.told] == [(1, 2, "epoch"), (2, 2, "epoch")]
    assert ("train.loss", 1, -0.1) in reporter.points
    assert ("valid.loss", 2, -0.5) in reporter.points
    assert ("valid.score", 2, 0.5) in reporter.points
    assert not {"train_epoch", "test_epoch"} & set(vars(model))


class OneStepAtATime(EpochModel):
    """Epochs of 50 real optimizer steps."""

    def train_epoch(self):
        super().train_epoch()
        torch = pytest.importorskip("torch")
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        for _ in range(50):
            optimizer.step()


def test_a_step_inside_an_epoch_is_a_place_to_cancel():
    reporter = FakeReporter("abort", after=7)

    with pytest.raises(Cancelled):
        fit_epochs(OneStepAtATime([0.1]), reporter)

    assert reporter.told[-1] == (0, 1, "epoch", "Epoch 1, step 7")


def test_a_wish_to_finish_leaves_the_epoch_at_once():
    model, reporter = OneStepAtATime([0.1, 0.5]), FakeReporter("finish", after=7)

    fit_epochs(model, reporter)

    assert [told[3] for told in reporter.told[-2:]] == ["Epoch 1, step 7", "Epoch 1"]
    assert model.best == 1


def test_a_wish_from_before_the_fit_ends_it_after_its_first_round_which_is_recorded(table):
    lightgbm, recorded = pytest.importorskip("lightgbm"), {}
    record = lightgbm.record_evaluation(recorded)

    booster = train_lightgbm(table, FakeReporter("finish", after=0), callbacks=[record])

    assert booster.num_trees() == 1
    # Qlib reads them after the fit, for every segment.
    assert [len(recorded[segment]["l2"]) for segment in ("train", "valid")] == [1, 1]


def test_a_fit_without_rounds_is_not_said_to_have_ended_early():
    reporter = FakeReporter("finish", after=0)
    watch = watch_of(reporter)

    watch.begin("Fitting LinearModel")

    assert reporter.told == [(0, None, "step", "Fitting LinearModel")]
    assert watch.finishing is False


def test_values_that_are_not_finite_are_no_points():
    reporter = FakeReporter()

    Curves(reporter).add(3, {"valid.score": math.nan, "train.score": 0.5, "x": math.inf})

    assert reporter.points == [("train.score", 3, 0.5)]


def test_a_curve_that_was_told_live_is_not_told_again_by_qlib():
    reporter = FakeReporter()
    curves = Curves(reporter)
    curves.add(1, {"valid.l2": 0.9})

    curves.add_from_qlib(0, {"l2.valid": 0.9})
    curves.add_from_qlib(1, {"lr": 0.01})

    assert reporter.points == [("valid.l2", 1, 0.9), ("lr", 1, 0.01)]


@pytest.mark.parametrize(
    ("qlib_name", "name"),
    [("l2.valid", "valid.l2"), ("ndcg_5.train", "train.ndcg_5"), ("val_loss", "valid.loss")]
    + [("train", "train.score"), ("lr", "lr")],
)
def test_curves_of_qlib_get_the_names_of_ours(qlib_name, name):
    assert curve_name(qlib_name) == name


def test_days_of_several_passes_count_on():
    reporter = FakeReporter()
    module = sys.modules["qlib.backtest.backtest"]
    with progress.watched_backtest(reporter, passes=2):
        for _ in range(2):
            with module.tqdm(total=3, desc="backtest loop") as bar:
                bar.update(1)
                bar.update(2)

    assert [told[:2] for told in reporter.told] == [(1, 6), (3, 6), (4, 6), (6, 6)]
    assert reporter.told[-1][3] == "Simulating days, pass 2 of 2"

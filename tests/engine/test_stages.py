"""Real trainings on real prices, each in its own process: stages, numbers, early ends, failures."""

import copy
import hashlib
import importlib.util
import json
import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from tests.engine.small_store import write_store

MARKET_DATA = os.environ.get("MARKET_DATA")
pytestmark = [
    pytest.mark.qlib,
    pytest.mark.skipif(MARKET_DATA is None, reason="MARKET_DATA names no folder of real prices"),
]
ROOT = Path(__file__).resolve().parents[2]
INSTRUMENTS, TEST_DAYS, ROUNDS = 50, 61, 12

FEATURES = [
    "$close/Ref($close,1)-1",
    "$close/Ref($close,5)-1",
    "Std($close,10)/$close",
    "$volume/(Mean($volume,10)+1)",
    "($high-$low)/$open",
    "Mean($close,20)/$close",
]
MODELS = {
    "lightgbm": ("gbdt", "LGBModel", {"num_boost_round": ROUNDS, "num_threads": 1}),
    "linear": ("linear", "LinearModel", {"estimator": "ols"}),
    "xgboost": ("xgboost", "XGBModel", {"eta": 0.1, "max_depth": 3, "nthread": 1}),
    "catboost": ("catboost_model", "CatBoostModel", {"depth": 3, "thread_count": 1}),
    "double_ensemble": (
        "double_ensemble",
        "DEnsembleModel",
        {"num_models": 3, "epochs": ROUNDS, "decay": 0.5, "num_threads": 1, "verbosity": -1},
    ),
    "gru": (
        "pytorch_gru",
        "GRU",
        {"d_feat": 6, "hidden_size": 4, "num_layers": 1, "n_epochs": 6, "batch_size": 4000}
        | {"metric": "loss", "early_stop": 20, "GPU": -1},
    ),
    "mlp": (
        "pytorch_nn",
        "DNNModelPytorch",
        {"max_steps": 60, "batch_size": 500, "eval_steps": 20, "GPU": -1}
        | {"pt_model_kwargs": {"input_dim": 6, "layers": [8]}},
    ),
}
# Qlib's other networks at their smallest: what differs from `_NETWORK`, what of the dataset.
_NETWORK = {"d_feat": 6, "n_epochs": 2, "batch_size": 4000, "metric": "loss", "GPU": -1}
_SMALL = {"hidden_size": 4, "num_layers": 1}
_HEADS = {"d_model": 4, "nhead": 2, "num_layers": 1}
_TRA = {
    "model_type": "RNN",
    "model_config": {"input_size": 6, "hidden_size": 4, "num_layers": 1, "rnn_arch": "LSTM"},
    "tra_config": {"num_states": 2, "hidden_size": 4, "num_layers": 1, "rnn_arch": "LSTM"},
    "n_epochs": 1,
    "max_steps_per_epoch": 5,
    "memory_mode": "sample",
    "logdir": "tra_log",
    "pretrain": True,
}
NETWORKS = {
    "lstm": ("pytorch_lstm", "LSTM", {**_NETWORK, **_SMALL}, {}),
    "alstm": ("pytorch_alstm", "ALSTM", {**_NETWORK, **_SMALL}, {}),
    "gats": (
        "pytorch_gats",
        "GATs",
        {"d_feat": 6, "hidden_size": 64, "num_layers": 2, "n_epochs": 2, "metric": "loss"},
        {},
    ),
    "transformer": ("pytorch_transformer", "TransformerModel", {**_NETWORK, **_HEADS}, {}),
    "tcn_ts": (
        "pytorch_tcn_ts",
        "TCN",
        {**_NETWORK, "n_chans": 4, "num_layers": 1, "kernel_size": 3, "n_jobs": 0},
        {"class": "TSDatasetH", "step_len": 6},
    ),
    "tabnet": (
        "pytorch_tabnet",
        "TabnetModel",
        {**_NETWORK, "pretrain_n_epochs": 1, "n_d": 4, "n_a": 4, "n_steps": 2, "vbs": 500},
        {"segments": ("pretrain", "pretrain_validation")},
    ),
    "tra": (
        "pytorch_tra",
        "TRAModel",
        _TRA,
        {
            "class": "MTSDatasetH",
            "module_path": "qlib.contrib.data.dataset",
            "seq_len": 5,
            "horizon": 2,
            "num_states": 2,
            "batch_size": 2000,
            "memory_mode": "sample",
        },
    ),
}
OPTIONAL = {"xgboost": "xgboost", "catboost": "catboost", "gru": "torch", "mlp": "torch"}


def task_of(model, *, records=("SignalRecord", "SigAnaRecord", "PortAnaRecord")):
    module, name, kwargs = MODELS[model]
    if model in OPTIONAL and importlib.util.find_spec(OPTIONAL[model]) is None:
        pytest.skip(f"{OPTIONAL[model]} is not installed")
    return {
        "model": {"class": name, "module_path": f"qlib.contrib.model.{module}", "kwargs": kwargs},
        "dataset": _dataset(),
        "record": [_record(record) for record in records],
    }


def _dataset():
    loader = {
        "class": "QlibDataLoader",
        "module_path": "qlib.data.dataset.loader",
        "kwargs": {
            "config": {
                "feature": [FEATURES, [f"F{number}" for number in range(len(FEATURES))]],
                "label": [["Ref($close,-2)/Ref($close,-1)-1"], ["LABEL0"]],
            }
        },
    }
    handler = {
        "class": "DataHandlerLP",
        "module_path": "qlib.data.dataset.handler",
        "kwargs": {
            "instruments": "all",
            "start_time": "2016-01-04",
            "end_time": "2018-12-20",
            "data_loader": loader,
            "infer_processors": [{"class": "Fillna", "kwargs": {"fields_group": "feature"}}],
            "learn_processors": [
                {"class": "DropnaLabel"},
                {"class": "CSZScoreNorm", "kwargs": {"fields_group": "label"}},
            ],
        },
    }
    segments = {
        "train": ["2016-01-04", "2017-12-29"],
        "valid": ["2018-01-02", "2018-06-29"],
        "test": ["2018-09-24", "2018-12-19"],
    }
    return {
        "class": "DatasetH",
        "module_path": "qlib.data.dataset",
        "kwargs": {"handler": handler, "segments": segments},
    }


def _record(name):
    record = {"class": name, "module_path": "qlib.workflow.record_temp", "kwargs": {}}
    if "PortAna" in name:
        strategy = {
            "class": "TopkDropoutStrategy",
            "module_path": "qlib.contrib.strategy",
            "kwargs": {"signal": "<PRED>", "topk": 10, "n_drop": 2},
        }
        costs = {"open_cost": 0.0005, "close_cost": 0.0015, "min_cost": 5}
        backtest = {
            "start_time": "2018-09-24",
            "end_time": "2018-12-19",
            "account": 1e8,
            "benchmark": "^GSPC",
            "exchange_kwargs": {"limit_threshold": None, "deal_price": "close", **costs},
        }
        record["kwargs"]["config"] = {"strategy": strategy, "backtest": backtest}
    if name == "MultiPassPortAnaRecord":
        record["kwargs"]["pass_num"] = 2
    return record


class Told:
    """What one training told, and the folder it left."""

    def __init__(self, folder):
        self.folder = folder
        self.log = (folder / "log.txt").read_text()
        self.__dict__.update(json.loads((folder / "told.json").read_text()))

    def calls(self, stage, unit):
        return [call for call in self.progress if call[0] == stage and call[3] == unit]

    def curve(self, name):
        return {step: value for point, step, value in self.points if point == name}

    def load(self, name):
        return pd.read_pickle(self.folder / "artifacts" / name)  # noqa: S301


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market") / "store"
    write_store(Path(MARKET_DATA), folder)
    return folder


@pytest.fixture(scope="module")
def trainer():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("train_many.py")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    with process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def run(trainer, store, tmp_path_factory):
    """Runs one training to its end: `run(task, order=…, rounds=…)`."""
    dataset = {"name": "sp50", "path": str(store), "region": "us", "fingerprint": "f1"}

    def run(task, *, order=None, rounds=ROUNDS, plain=False, evaluator="platform"):
        folder = tmp_path_factory.mktemp("scratch")
        config = {"task": task, "platform": {"rounds": rounds}}
        job = {"task_id": "t", "attempt": 1, "config": config, "dataset": dataset, "threads": 1}
        job["evaluator"] = evaluator
        spec = {"folder": str(folder), "task": task, "job": job, "order": order, "plain": plain}
        trainer.stdin.write(json.dumps(spec) + "\n")
        trainer.stdin.flush()
        code = trainer.stdout.readline().strip()
        while not code.lstrip("-").isdigit():  # gym greets at its import
            code = trainer.stdout.readline().strip()
        if code != "0":
            pytest.fail((folder / "log.txt").read_text()[-3000:])
        return (
            json.loads((folder / "told.json").read_text()) | {"folder": folder}
            if plain
            else Told(folder)
        )

    return run


def order(op, stage, *, after):
    return {"op": op, "stage": stage, "after": after}


@pytest.fixture(scope="module")
def lightgbm(run):
    return run(task_of("lightgbm"))


# ── a whole training ────────────────────────────────────────────────────────────────────


def test_the_stages_come_in_their_order_and_each_has_its_time(lightgbm):
    names = ["data", "fit", "predict", "evaluate", "backtest", "save"]

    assert lightgbm.stages == names
    assert list(lightgbm.result["timings"]) == names
    assert all(seconds >= 0 for seconds in lightgbm.result["timings"].values())


def test_loaded_instruments_rounds_and_days_are_reported(lightgbm):
    loaded = lightgbm.calls("data", "instrument")
    rounds = lightgbm.calls("fit", "iteration")
    days = [call for call in lightgbm.calls("backtest", "day") if call[4] == "Simulating days"]

    done = [call[1] for call in loaded]
    assert {call[2] for call in loaded} - {None} == {INSTRUMENTS}
    assert done == sorted(done)
    assert done[-1] == INSTRUMENTS
    assert [call[1:3] for call in rounds] == [[n, ROUNDS] for n in range(1, ROUNDS + 1)]
    assert [call[1:3] for call in days] == [[n, len(days)] for n in range(1, TEST_DAYS + 1)]


def test_the_processors_are_named_while_they_work(lightgbm):
    messages = {call[4] for call in lightgbm.calls("data", "instrument")}

    assert {"Loading data", "Fillna", "CSZScoreNorm"} <= messages


def test_each_round_has_one_point_in_the_train_and_the_valid_curve(lightgbm):
    assert list(lightgbm.curve("train.l2")) == list(range(1, ROUNDS + 1))
    assert list(lightgbm.curve("valid.l2")) == list(range(1, ROUNDS + 1))
    losses = list(lightgbm.curve("train.l2").values())
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("model", "curve"),
    [("lightgbm", "valid_"), ("xgboost", "valid_"), ("double_ensemble", "sub_1.valid_")],
)
def test_the_ic_of_the_validation_segment_is_told_while_it_trains(run, model, curve):
    told = run(task_of(model, records=("SignalRecord",)))

    measured = told.curve(f"{curve}ic")
    assert measured.keys() == told.curve(f"{curve}rank_ic").keys()
    assert len(measured) >= 1
    assert set(measured) <= set(range(1, ROUNDS + 1))
    assert all(-1 <= value <= 1 for value in measured.values())


def test_the_result_has_the_contracts_metrics_and_all_are_finite(lightgbm):
    metrics = lightgbm.result["metrics"]

    returns = ["annualized_return", "information_ratio", "max_drawdown"]
    promised = {"ic", "icir", "rank_ic", "rank_icir", "turnover", *returns}
    promised |= {f"{name}_without_cost" for name in returns}
    assert promised <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["annualized_return"] < metrics["annualized_return_without_cost"]


def test_the_metrics_are_those_of_plain_qlib_to_nine_digits(run, lightgbm):
    plain = run(task_of("lightgbm"), plain=True)

    metrics, ours = plain["metrics"], lightgbm.result["metrics"]
    excess = "1day.excess_return_with_cost"
    pairs = {
        "ic": "IC",
        "icir": "ICIR",
        "rank_ic": "Rank IC",
        "rank_icir": "Rank ICIR",
        "annualized_return": f"{excess}.annualized_return",
        "information_ratio": f"{excess}.information_ratio",
        "max_drawdown": f"{excess}.max_drawdown",
    }
    assert {name: ours[name] for name in pairs} == pytest.approx(
        {name: metrics[theirs] for name, theirs in pairs.items()}, abs=1e-9
    )
    predicted = pd.read_pickle(plain["folder"] / "plain_pred.pkl")  # noqa: S301
    pd.testing.assert_frame_equal(lightgbm.load("pred.pkl"), predicted)


def test_every_listed_artifact_is_there_with_its_size_and_hash(lightgbm):
    folder = lightgbm.folder / "artifacts"
    listed = {artifact["path"]: artifact for artifact in lightgbm.result["artifacts"]}

    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert set(listed) == set(files)
    assert {"params.pkl", "dataset", "task", "label.pkl", "sig_analysis/ic.pkl"} <= set(files)
    for path, content in files.items():
        assert listed[path]["bytes"] == len(content)
        assert listed[path]["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_kept_config_is_what_was_asked_for_without_the_filled_placeholders(lightgbm):
    kept = json.loads((lightgbm.folder / "artifacts/config.json").read_text())

    assert kept["task"] == json.loads(json.dumps(task_of("lightgbm")))


def test_the_report_and_the_predictions_stand_for_every_day_of_the_test(lightgbm):
    report = json.loads((lightgbm.folder / "artifacts/report.json").read_text())
    table = pd.read_parquet(lightgbm.folder / "artifacts/predictions.parquet")

    assert len(report["portfolio"]["days"]) == TEST_DAYS
    assert len(report["ic"]["days"]) == TEST_DAYS
    assert set(report["feature_importance"]["features"]) == {f"F{n}" for n in range(6)}
    assert len(table) == TEST_DAYS * INSTRUMENTS
    assert report["holdings"]["days"] == report["portfolio"]["days"]
    assert max(report["holdings"]["count"]) == 10
    with closing(sqlite3.connect(lightgbm.folder / "artifacts/outcomes.sqlite")) as file:
        scored = file.execute("SELECT count(*), sum(score) FROM scores").fetchone()
        held = file.execute("SELECT count(*) FROM positions").fetchone()[0]
    assert scored == (len(table), pytest.approx(table["score"].sum()))
    assert held == sum(report["holdings"]["count"])
    drawdown = min(report["portfolio"]["drawdown_with_cost"])
    assert drawdown == pytest.approx(lightgbm.result["metrics"]["max_drawdown"])


@pytest.mark.parametrize("network", NETWORKS)
def test_every_other_network_trains_tells_its_epochs_and_predicts(run, network):
    told = run(network_task(network))

    assert told.ended == "done", told.log[-2000:]
    assert told.stages == ["data", "fit", "predict", "save"]
    assert told.calls("fit", "epoch"), {call[3] for call in told.progress}
    prediction = told.load("pred.pkl")
    assert len(prediction) == TEST_DAYS * INSTRUMENTS
    assert prediction["score"].notna().all()
    # TRA scores its predictions where nobody sees them.
    assert bool(told.curve("valid_ic")) == (network != "tra")


def network_task(network):
    pytest.importorskip("torch")
    module, name, kwargs, differs = NETWORKS[network]
    task = task_of("linear", records=("SignalRecord",))
    place = f"qlib.contrib.model.{module}"
    task["model"] = {"class": name, "module_path": place, "kwargs": kwargs}
    dataset = task["dataset"]
    for key, value in differs.items():
        if key in ("class", "module_path"):
            dataset[key] = value
        elif key != "segments":
            dataset["kwargs"][key] = value
    if "segments" in differs:
        segments = dataset["kwargs"]["segments"]
        segments |= {"pretrain": segments["train"], "pretrain_validation": segments["valid"]}
    return task


@pytest.mark.parametrize("model", ["lightgbm", "linear"])
def test_the_same_config_predicts_the_same_in_every_bit_when_it_runs_again(run, model):
    first, second = (run(task_of(model, records=("SignalRecord",))) for _ in range(2))

    one, other = first.load("pred.pkl"), second.load("pred.pkl")
    assert one.index.equals(other.index)
    assert one.to_numpy().tobytes() == other.to_numpy().tobytes()
    assert first.folder != second.folder


def test_the_data_and_versions_are_those_really_used(lightgbm):
    assert lightgbm.result["data"] == {
        "dataset": "sp50",
        "fingerprint": "f1",
        "first_day": "2016-01-04",
        "last_day": "2018-12-20",
        "instruments": INSTRUMENTS,
        "rows": lightgbm.result["data"]["rows"],
        "columns": len(FEATURES),
    }
    assert TEST_DAYS * INSTRUMENTS < lightgbm.result["data"]["rows"] <= 3 * 253 * INSTRUMENTS
    assert {"python", "qlib", "lightgbm", "numpy", "pandas"} <= set(lightgbm.result["versions"])


@pytest.mark.parametrize("model", ["lightgbm", "linear"])
def test_qlib_as_evaluator_gives_the_same_to_the_last_bit_and_the_result_tells(run, model):
    ours, theirs = run(task_of(model)), run(task_of(model), evaluator="qlib")

    assert ours.result["versions"]["evaluator"] == "platform 1"
    assert theirs.result["versions"]["evaluator"] == "qlib"
    assert ours.result["metrics"] == theirs.result["metrics"]
    for name in ("pred.pkl", "label.pkl"):
        pd.testing.assert_frame_equal(ours.load(name), theirs.load(name), check_exact=True)


def test_the_log_has_no_times_of_its_own_and_names_who_speaks(lightgbm):
    assert "INFO qlib.Initialization: qlib successfully initialized" in lightgbm.log


def test_several_passes_count_on_and_keep_the_plain_backtests_numbers(run, lightgbm):
    records = ("SignalRecord", "SigAnaRecord", "PortAnaRecord", "MultiPassPortAnaRecord")

    told = run(task_of("lightgbm", records=records))

    last = told.calls("backtest", "day")[-1]
    metrics = told.result["metrics"]
    assert last[1:3] == [2 * TEST_DAYS, 2 * TEST_DAYS]
    assert metrics["annualized_return"] == lightgbm.result["metrics"]["annualized_return"]
    assert math.isfinite(metrics["annualized_return_mean"])


def test_the_high_frequency_record_gives_ic_and_precision(run):
    told = run(task_of("linear", records=("SignalRecord", "HFSignalRecord")))

    assert {"ic", "rank_ic", "long_precision", "short_precision"} <= set(told.result["metrics"])
    assert "annualized_return" not in told.result["metrics"]
    report = json.loads((told.folder / "artifacts/report.json").read_text())
    assert "ic" in report
    assert "portfolio" not in report


# ── each family: live, finished early, cancelled ────────────────────────────────────────

SIGNAL = ("SignalRecord", "SigAnaRecord")
UNITS = {"mlp": "step", "gru": "epoch"}
CURVES = {
    "lightgbm": "valid.l2",
    "xgboost": "valid.rmse",
    "catboost": "valid.rmse",
    "double_ensemble": "sub_1.valid.l2",
    "gru": "valid.loss",
    "mlp": "valid.loss",
}
FAMILIES = [pytest.param(model, id=model) for model in CURVES]


@pytest.mark.parametrize("model", FAMILIES)
def test_a_fit_finished_early_keeps_the_best_and_goes_on_to_all_records(run, model):
    told = run(task_of(model, records=SIGNAL), order=order("finish", "fit", after=6))

    assert told.ended == "done", told.log[-2000:]
    assert told.result["stopped"] == "finish"
    assert told.stages[-1] == "save"
    assert told.curve(CURVES[model])
    assert "rank_ic" in told.result["metrics"]
    calls = told.calls("fit", UNITS.get(model, "iteration"))
    assert max(call[1] for call in calls) < calls[-1][2]


@pytest.mark.parametrize("model", FAMILIES)
def test_a_cancel_in_a_fit_ends_it_there(run, model):
    told = run(task_of(model), order=order("abort", "fit", after=4))

    assert told.ended == "Cancelled", told.log[-2000:]
    assert told.stages[-1] == "fit"
    assert len([call for call in told.progress if call[0] == "fit"]) == 4


@pytest.mark.parametrize("stage", ["data", "backtest"])
def test_a_cancel_while_loading_or_simulating_ends_it_there(run, stage):
    told = run(task_of("linear"), order=order("abort", stage, after=5))

    assert told.ended == "Cancelled"
    assert told.stages[-1] == stage


@pytest.mark.parametrize("model", ["gru", "mlp"])
def test_a_whole_fit_of_a_torch_model_reports_to_its_last_epoch_or_step(run, model):
    told = run(task_of(model, records=SIGNAL))

    total = {"gru": 6, "mlp": 60}[model]
    assert told.calls("fit", UNITS[model])[-1][1:3] == [total, total]
    assert told.curve("valid.loss")
    assert told.curve("valid_ic")


def test_the_best_weights_stay_after_a_finish_and_the_model_holds_no_callback_of_ours(run):
    told = run(task_of("gru", records=SIGNAL), order=order("finish", "fit", after=40))

    scores = told.curve("valid.score")
    model = told.load("params.pkl")
    assert len(scores) < 6
    assert model.early_stop == 20
    assert not {"train_epoch", "test_epoch"} & set(vars(model))


def test_an_ensemble_finished_between_two_sub_models_predicts_with_those_it_has(run):
    told = run(
        task_of("double_ensemble", records=SIGNAL), order=order("finish", "fit", after=ROUNDS + 4)
    )

    model = told.load("params.pkl")
    assert len(model.ensemble) == model.num_models == 1
    assert len(model.sub_weights) == len(model.sub_features) == 1


def test_a_finish_before_the_fit_ends_it_after_its_first_step(run):
    told = run(task_of("lightgbm"), order=order("finish", "data", after=3))

    assert told.result["stopped"] == "finish"
    assert [call[1] for call in told.calls("fit", "iteration")] == [1]


def test_the_rounds_of_xgboost_can_be_set_though_qlib_has_no_place_for_them(run):
    told = run(task_of("xgboost", records=()), rounds=5)

    assert [call[1:3] for call in told.calls("fit", "iteration")] == [[n, 5] for n in range(1, 6)]


# ── failures ────────────────────────────────────────────────────────────────────────────


def test_a_record_that_qlib_would_skip_in_silence_is_a_failure_with_its_name(run):
    told = run(task_of("linear", records=("SigAnaRecord",)))

    assert told.code == "record_skipped"
    assert told.error.startswith("SigAnaRecord made no result")


def test_a_class_that_is_not_allowed_is_refused_before_anything_is_loaded(run):
    task = copy.deepcopy(task_of("linear"))
    task["model"] = {"class": "system", "module_path": "os", "kwargs": {"command": "true"}}

    told = run(task)

    assert told.code == "invalid_config"
    assert told.stages == []


def test_a_segment_without_rows_fails_with_a_sentence_about_dates(run):
    task = copy.deepcopy(task_of("lightgbm"))
    task["dataset"]["kwargs"]["segments"]["train"] = ["2010-01-01", "2010-12-31"]

    told = run(task)

    assert told.code == "training_error"
    assert "check the dates" in told.error


def test_a_backtest_past_the_last_day_says_so(run):
    task = copy.deepcopy(task_of("linear"))
    task["record"][2]["kwargs"]["config"]["backtest"]["end_time"] = "2019-06-28"

    told = run(task)

    assert told.code == "training_error"
    assert "ran past the dataset's last day" in told.error

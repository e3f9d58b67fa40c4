"""The second check, in the training process: a config from a queue that anyone may have fed."""

import importlib
import json
from copy import deepcopy

import pytest

from tests.core.workflow_cases import changed, checked, workflow
from training import catalogue
from training.engine import fit
from training.engine.recipe import RefusedConfig, task_for_qlib
from training.workflow import canonical


@pytest.fixture
def config():
    return json.loads(json.dumps(checked(workflow()).config))


def test_the_canonical_config_passes_unchanged(config):
    assert task_for_qlib(config) == config["task"]


def test_the_config_is_left_as_it_was(config):
    before = deepcopy(config)

    task_for_qlib(config)["model"]["kwargs"]["num_leaves"] = 3

    assert config == before


def test_limits_become_the_tuples_that_qlib_wants():
    place = "task.record.2.kwargs.config.backtest.exchange_kwargs"
    exchange = {
        "limit_threshold": ["$change > 0.1", "$change < -0.1"],
        "volume_threshold": {"all": ["cum", "0.2 * $volume"]},
    }
    stored = checked(changed(place, exchange)).config

    task = task_for_qlib(json.loads(json.dumps(stored)))

    given = task["record"][2]["kwargs"]["config"]["backtest"]["exchange_kwargs"]
    assert given["limit_threshold"] == ("$change > 0.1", "$change < -0.1")
    assert given["volume_threshold"] == {"all": ("cum", "0.2 * $volume")}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("task.model", {"class": "os.system", "kwargs": {"command": "touch x"}}),
        ("task.model", {"class": "system", "module_path": "os", "kwargs": {"command": "x"}}),
        ("task.model", "file:///tmp/x.pkl"),
        ("task.model", {"func": "os.system"}),
        ("task.model.module_path", "evil.py"),
        ("task.model.kwargs.output_model", "/etc/passwd"),
        ("task.dataset.kwargs.handler", "file:///tmp/handler.pkl"),
        ("task.dataset.kwargs.handler.kwargs.label", ["__import__('os').system('x')"]),
        ("task.dataset.kwargs.handler.kwargs.instruments", "../../x"),
        ("task.record.2.kwargs.config.backtest.exchange_kwargs.deal_price", "$close;x"),
        ("task.record.2.kwargs.config.strategy.kwargs.signal", {"class": "os.system"}),
        ("task.reweighter", {"class": "os.system"}),
        ("task.extra", 1),
        ("extra", 1),
    ],
)
def test_a_config_that_the_check_can_not_have_made_is_refused(config, place, value):
    *way, last = place.split(".")
    here = config
    for step in way:
        here = here[int(step)] if isinstance(here, list) else here[step]
    here[last] = value

    with pytest.raises(RefusedConfig):
        task_for_qlib(config)


@pytest.mark.parametrize("config", [None, [], "x", {}, {"task": None}, {"task": []}])
def test_what_is_no_config_is_refused(config):
    with pytest.raises(RefusedConfig):
        task_for_qlib(config)


@pytest.fixture
def noise():
    numpy = pytest.importorskip("numpy")
    random = numpy.random.default_rng(1)
    return random.normal(size=(2000, 12)), random.normal(size=2000)


def _explicit(model, module, **posted):
    """What the check adds to the parameters of a booster, threads left out."""
    place = {"class": model, "module_path": f"qlib.contrib.model.{module}", "kwargs": posted}
    kwargs = checked(changed("task.model", place)).config["task"]["model"]["kwargs"]
    ours = ("loss", "early_stopping_rounds", "num_boost_round")
    return {name: value for name, value in kwargs.items() if name not in ours}


@pytest.mark.qlib
def test_lightgbms_explicit_seeds_give_the_same_trees(noise):
    lightgbm = pytest.importorskip("lightgbm")
    posted = {
        "subsample": 0.6,
        "bagging_freq": 1,
        "colsample_bytree": 0.5,
        "extra_trees": True,
        "boosting": "dart",
        "max_depth": 4,
        "num_threads": 1,
        "verbosity": -1,
    }
    x, y = noise

    plain, explicit = (
        lightgbm.train(dict(given), lightgbm.Dataset(x, y), num_boost_round=20).predict(x)
        for given in (posted, _explicit("LGBModel", "gbdt", **posted))
    )

    assert (plain == explicit).all()


@pytest.mark.qlib
def test_xgboosts_explicit_seed_gives_the_same_trees(noise):
    xgboost = pytest.importorskip("xgboost")
    posted = {"subsample": 0.5, "colsample_bytree": 0.5, "max_depth": 4, "nthread": 1}
    x, y = noise
    rows = xgboost.DMatrix(x, label=y)

    plain, explicit = (
        xgboost.train(dict(given), rows, num_boost_round=20).predict(rows)
        for given in (posted, _explicit("XGBModel", "xgboost", **posted))
    )

    assert (plain == explicit).all()


@pytest.mark.qlib
def test_catboosts_explicit_seed_gives_the_same_trees(noise, tmp_path, monkeypatch):
    catboost = pytest.importorskip("catboost")
    monkeypatch.chdir(tmp_path)
    posted = {"max_depth": 4, "thread_count": 1, "bootstrap_type": "Bernoulli", "subsample": 0.5}
    quiet = {"iterations": 20, "verbose": False}
    x, y = noise

    plain, explicit = (
        catboost.CatBoost({**given, **quiet}).fit(x, y).predict(x)
        for given in (posted, _explicit("CatBoostModel", "catboost_model", **posted))
    )

    assert (plain == explicit).all()


@pytest.mark.qlib
@pytest.mark.filterwarnings("ignore")
def test_every_offered_model_can_be_constructed_from_what_the_check_gives(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("qlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    failed = {}
    for entry in catalogue.load().slots["model"]:
        kwargs = {name: {} for name, p in entry.parameters.items() if p.required}
        model = {"class": entry.name, "module_path": entry.module, "kwargs": kwargs}
        task = {"model": model, "dataset": workflow()["task"]["dataset"], "record": []}
        canonical.complete(task, catalogue=catalogue.load(), threads=2)
        made = task_for_qlib({"task": task})["model"]
        if fit.needs_plateau_scheduler(made["class"], made["kwargs"]):
            made["kwargs"]["scheduler"] = fit.plateau_scheduler()
        try:
            getattr(importlib.import_module(made["module_path"]), made["class"])(**made["kwargs"])
        except Exception as error:
            failed[entry.module] = repr(error)

    assert failed == {}

"""The second check, in the training process: a config from a queue that anyone may have fed."""

import json
from copy import deepcopy

import pytest

from tests.core.workflow_cases import changed, checked, workflow
from training.engine.recipe import RefusedConfig, task_for_qlib


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

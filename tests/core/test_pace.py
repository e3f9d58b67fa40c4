"""How far a task is and how long it takes: only what was measured, by this run where it can be."""

import pytest

from training import pace
from training.pace import PRIOR, Pace
from training.states import Stage, Status
from training.workflow import effort

BEFORE = {Stage.DATA: 4.0, Stage.FIT: 15.0, Stage.PREDICT: 1.0, Stage.BACKTEST: 5.0}


@pytest.fixture
def clock(monkeypatch):
    """`clock.now` is the time."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(pace.time, "monotonic", lambda: Clock.now)
    return Clock


def test_without_history_the_stage_is_told_by_its_own_pace_and_nothing_of_the_rest(clock):
    own = Pace(shares=PRIOR, entered_at=clock.now)
    own.enter(Stage.FIT)
    assert own.left() == {}

    clock.now += 10
    own.advance(20, 100)

    assert own.left() == {"stage_eta_s": 40.0}


@pytest.mark.parametrize(("seconds", "done"), [(1.0, 50), (60.0, 1)])
def test_a_pace_that_was_hardly_watched_is_no_measure(clock, seconds, done):
    own = Pace(shares=PRIOR, entered_at=clock.now)
    own.enter(Stage.DATA)
    clock.now += seconds
    own.advance(done, 100)

    assert own.left() == {}


def test_a_fit_of_as_many_rounds_may_end_as_early_as_its_like(clock):
    own = Pace(shares=PRIOR, seconds=BEFORE, same_effort=True, entered_at=clock.now)
    own.enter(Stage.FIT)
    clock.now += 5
    own.advance(100, 3_000)

    assert own.left() == {"stage_eta_s": 10.0, "eta_s": 16.0}


def test_a_fit_that_outlasts_its_like_is_told_by_its_own_pace(clock):
    own = Pace(shares=PRIOR, seconds=BEFORE, same_effort=True, entered_at=clock.now)
    own.enter(Stage.FIT)
    clock.now += 30
    own.advance(742, 3_000)

    assert own.left()["stage_eta_s"] == pytest.approx(91.3)
    assert own.left()["eta_s"] == pytest.approx(97.3)


def test_a_fit_of_other_rounds_is_told_by_its_own_pace_alone(clock):
    own = Pace(shares=PRIOR, seconds=BEFORE, entered_at=clock.now)
    own.enter(Stage.FIT)
    assert own.left() == {}
    clock.now += 5
    own.advance(100, 3_000)

    assert own.left() == {"stage_eta_s": 145.0, "eta_s": 151.0}


def test_the_last_task_like_it_tells_its_times_and_whether_its_fit_was_as_long(make_task):
    config = {
        "task": {
            "model": {"kwargs": {"num_boost_round": 100, "learning_rate": 0.1}},
            "dataset": {"kwargs": {"handler": {"class": "Alpha158"}}},
        }
    }
    make_task(status=Status.COMPLETED, config=config, result={"timings": {"fit": 3.0, "init": 9.0}})
    other_rate = {**config["task"], "model": {"kwargs": {"num_boost_round": 100}}}
    longer = {**config["task"], "model": {"kwargs": {"num_boost_round": 900}}}

    same, long = (Pace.of(make_task(config={"task": task})) for task in (other_rate, longer))

    assert same.seconds == long.seconds == {Stage.FIT: 3.0}
    assert (same.same_effort, long.same_effort) == (True, False)
    assert Pace.of(make_task(config=config, model="Linear")).shares == PRIOR


def test_rounds_by_any_name_are_effort_and_other_settings_are_not():
    def of(**kwargs):
        return effort({"task": {"model": {"kwargs": kwargs}}, "platform": {}})

    assert of(learning_rate=0.1) == of(learning_rate=0.2)
    for name in ("num_boost_round", "n_epochs", "early_stop", "max_steps", "num_models"):
        assert of(**{name: 1}) != of(**{name: 2})
    assert effort({"platform": {"rounds": 5}}) != effort({})


@pytest.mark.parametrize(
    "config",
    [{}, {"task": "x"}, {"task": {"model": "a.b.C"}}, {"task": {"model": {"kwargs": [1]}}}],
)
def test_a_row_that_holds_no_workflow_has_a_pace_too(make_task, config):
    task = make_task(config={**config, "platform": ["x"]})

    assert effort(task.config) == effort({})
    assert Pace.of(task).shares == PRIOR

"""Presets: complete workflows for the dataset that is here; the staff's to change."""

import pytest

from tests.factories import make_dataset, make_worker
from training import presets
from training.models import Preset
from training.preflight import check


@pytest.fixture(autouse=True)
def _shipped(db):
    """As a migration leaves them; another test may have emptied the tables."""
    presets.load_shipped()


def test_at_least_twelve_are_offered_and_every_one_can_run_here(api):
    # So many that MLP can measure itself.
    make_dataset(codes=[f"C{number}" for number in range(50)])
    make_worker(extras=("xgboost", "catboost"))
    make_worker("worker-2", queue="torch", extras=("torch",))

    offers = api.get("/api/presets").json()["results"]

    assert len(offers) >= 12
    assert all(offer["runnable"] for offer in offers)
    for offer in offers:
        verdict = check(offer["workflow"].encode(), content_type="application/yaml")
        assert [fault.as_dict() for fault in verdict.faults] == [], offer["name"]
        assert not any("the label looks" in one.message for one in verdict.warnings), offer["name"]
        assert verdict.workflow.model == offer["model"]
        assert verdict.workflow.needs == offer["needs"]


def test_a_preset_can_be_posted_as_it_is_offered(api, dataset):
    make_worker()
    offer = api.get("/api/presets/lightgbm-alpha158").json()

    made = api.post("/api/train", offer["workflow"], content_type="application/yaml")

    assert made.status_code == 201
    task = made.json()["task"]
    assert (task["name"], task["tags"]) == ("LightGBM on Alpha158, demo", ["preset"])
    backtest = task["config"]["task"]["record"][2]["kwargs"]["config"]["backtest"]
    assert backtest["benchmark"] == "BENCH"


def test_segments_are_of_the_dataset_and_none_sees_the_next(dataset):
    days = dataset.manifest["days"]

    parts = presets.segments_of(days)

    assert parts["train"][0] == days[0]
    order = [days.index(day) for part in ("train", "valid", "test") for day in parts[part]]
    assert order == sorted(order)
    assert order[2] - order[1] == order[4] - order[3] == presets.GAP
    assert order[5] == len(days) - 1 - presets.GAP
    assert (order[1] - order[0]) / len(days) == pytest.approx(presets.TRAIN, abs=0.01)


def test_a_preset_keeps_what_it_says_itself(dataset):
    data = presets.parse(Preset.objects.get(name="linear-alpha158").workflow)
    data["task"]["dataset"]["kwargs"]["segments"] = {"test": ["2018-01-01", "2018-12-31"]}
    data["task"]["dataset"]["kwargs"]["handler"]["kwargs"]["instruments"] = ["AAA"]

    document = presets.fitted(data, dataset, name="x")

    kwargs = document["task"]["dataset"]["kwargs"]
    assert kwargs["segments"] == {"test": ["2018-01-01", "2018-12-31"]}
    assert kwargs["handler"]["kwargs"]["instruments"] == ["AAA"]
    assert document["task"]["record"][2]["kwargs"]["config"]["backtest"]["start_time"] == (
        "2018-01-01"
    )


def test_a_market_without_a_benchmark_gets_no_backtest(dataset):
    dataset.manifest["benchmarks"] = []

    document = presets.fitted(
        presets.parse(Preset.objects.get(name="linear-alpha158").workflow), dataset, name="x"
    )

    assert [one["class"] for one in document["task"]["record"]] == ["SignalRecord", "SigAnaRecord"]


def test_presets_are_fitted_to_the_dataset_that_is_named(api, dataset):
    make_dataset("other")

    offers = api.get("/api/presets?dataset=other").json()["results"]

    assert {offer["dataset"] for offer in offers} == {"other"}
    assert "provider_uri: other" in offers[0]["workflow"]
    missing = api.get("/api/presets?dataset=third")
    assert missing.status_code == 404
    assert "there is demo, other" in missing.json()["error"]["message"]
    assert api.get("/api/presets/none-such").status_code == 404


def test_what_the_staff_has_changed_is_not_loaded_again(dataset):
    Preset.objects.filter(name="linear-alpha158").update(title="Ours")

    assert presets.load_shipped() == 0
    assert Preset.objects.get(name="linear-alpha158").title == "Ours"


def test_torch_is_runnable_only_where_a_worker_has_it(api, dataset):
    make_worker()

    runnable = {one["name"]: one["runnable"] for one in api.get("/api/presets").json()["results"]}

    assert runnable["lightgbm-alpha158"]
    assert not runnable["lstm-alpha360"]

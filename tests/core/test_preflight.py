"""The check against what is here: datasets, workers, and what runs like it have needed."""

import copy
import json

import pytest

from tests.factories import make_worker
from training import preflight
from training.api.submit import EXAMPLE
from training.models import Worker
from training.states import Status

pytestmark = pytest.mark.usefixtures("dataset")

HANDLER = "task.dataset.kwargs.handler.kwargs"
GB = 10**9


def posted(**platform):
    data = copy.deepcopy(EXAMPLE)
    data["platform"] = platform
    return data


def needing(library, **platform):
    model = {
        "xgboost": ("XGBModel", "xgboost", {}),
        "torch": ("LSTM", "pytorch_lstm", {"d_feat": 158}),
    }
    name, module, kwargs = model[library]
    data = posted(**platform)
    data["task"]["model"] = {
        "class": name,
        "module_path": f"qlib.contrib.model.{module}",
        "kwargs": kwargs,
    }
    return data


def verdict(data):
    return preflight.check(json.dumps(data).encode(), content_type="application/json")


def told(found):
    return {fault.path: fault.message for fault in found}


@pytest.fixture
def finished(make_task):
    """A completed run of the example's model and handler: `finished(rows=…, peak=…)`."""

    def make(*, rows, peak=GB, columns=158, model="LGBModel", **result):
        result = {
            "data": {"rows": rows, "columns": columns},
            "peak_memory_bytes": peak,
            "timings": {"data": 4.0, "fit": 6.0, "backtest": 3.0},
            **result,
        }
        config = verdict(EXAMPLE).workflow.config
        return make_task(status=Status.COMPLETED, result=result, config=config, model=model)

    return make


def rows():
    return verdict(EXAMPLE).estimate.rows


# ── workers ─────────────────────────────────────────────────────────────────────────────


def test_what_no_worker_present_can_run_is_refused_with_that_reason():
    make_worker(extras=("catboost",))

    found = verdict(needing("xgboost"))

    assert found.workflow is None
    assert "needs xgboost, and no worker" in told(found.faults)["task.model.class"]


def test_what_works_on_a_gpu_only_waits_for_the_gpu_queue_or_is_told_at_its_parameter():
    make_worker(extras=("catboost",))
    data = posted()
    data["task"]["model"] = {
        "class": "CatBoostModel",
        "module_path": "qlib.contrib.model.catboost_model",
        "kwargs": {"bootstrap_type": "Poisson"},
    }

    refused = verdict(data)
    make_worker("worker-2", queue="gpu", extras=("catboost", "gpu"))
    taken = verdict(data)

    assert "needs gpu" in told(refused.faults)["task.model.kwargs.bootstrap_type"]
    assert taken.workflow is not None
    assert preflight.queue_of(taken.workflow.needs) == "gpu"


def test_it_waits_where_the_sender_would_rather_wait_and_says_so():
    found = verdict(needing("xgboost", when_no_worker="wait"))

    assert found.workflow is not None
    assert "no worker present has it" in told(found.warnings)["task.model.class"]


def test_a_worker_that_has_the_library_makes_it_pass():
    make_worker(extras=("xgboost",))

    assert verdict(needing("xgboost")).workflow is not None


def test_a_worker_of_another_queue_or_a_draining_or_a_silent_one_does_not_count(settings):
    make_worker(queue="cpu", extras=("torch",))
    make_worker("worker-2", queue="torch", extras=("torch",))
    Worker.objects.filter(name="worker-2").update(draining=True)
    assert verdict(needing("torch")).workflow is None

    Worker.objects.filter(name="worker-2").update(draining=False)
    assert verdict(needing("torch")).workflow is not None

    Worker.objects.update(seen_at="2020-01-01T00:00:00Z")
    assert verdict(needing("torch")).workflow is None


# ── memory and time ─────────────────────────────────────────────────────────────────────


def test_without_history_memory_is_what_qlib_was_measured_to_need_and_time_is_not_told():
    size = verdict(EXAMPLE).estimate

    assert size.memory_bytes == 300 * 1024 * 1024 + 5_500 * size.rows
    assert "seconds" not in size.as_dict()
    assert size.as_dict()["memory_learned_from"] == 0


def test_memory_and_time_are_learned_from_finished_runs_of_about_that_size(finished):
    finished(rows=rows() // 2, peak=1_500_000_000)

    size = verdict(EXAMPLE).estimate

    base = 300 * 1024 * 1024
    assert size.memory_bytes == pytest.approx(base + 2 * (1_500_000_000 - base), rel=0.001)
    assert size.as_dict()["seconds_by_stage"] == {
        "data": pytest.approx(8.0, rel=0.001),
        "fit": pytest.approx(12.0, rel=0.001),
        "backtest": 3.0,
    }
    assert size.as_dict()["seconds"] == 23.0


@pytest.mark.parametrize(
    "other",
    [
        {"rows": 1},
        {"rows": 10**9},
        {"columns": 20},
        {"model": "LinearModel"},
        {"stopped": "finish"},
        {"peak_memory_bytes": None},
        {"data": {}},
    ],
)
def test_runs_of_another_kind_or_size_teach_nothing(finished, other):
    finished(**{"rows": rows(), **other})

    assert verdict(EXAMPLE).estimate.runs == 0


def test_times_are_learned_from_the_same_dataset_only_and_memory_from_any(finished, make_task):
    task = finished(rows=rows())
    type(task).objects.filter(pk=task.pk).update(dataset="other")

    size = verdict(EXAMPLE).estimate

    assert (size.runs, size.seconds) == (1, {})


def test_times_are_not_learned_from_a_fit_of_other_rounds(finished):
    finished(rows=rows())
    longer = copy.deepcopy(EXAMPLE)
    longer["task"]["model"]["kwargs"]["num_boost_round"] = 100_000

    size = verdict(longer).estimate

    assert (size.runs, size.seconds) == (1, {})
    assert verdict(EXAMPLE).estimate.seconds


def test_a_workflow_that_was_learned_to_fit_no_worker_is_refused(finished):
    make_worker()
    finished(rows=rows(), peak=5 * GB)

    found = verdict(EXAMPLE)

    assert found.workflow is None
    assert "take 5.0 GB, as 1 runs like it have shown" in told(found.faults)[HANDLER]
    assert "4.3 GB" in told(found.faults)[HANDLER]


def test_the_same_is_a_warning_for_a_sender_who_waits_and_where_it_is_only_an_estimate(finished):
    make_worker()
    Worker.objects.update(memory_bytes=200 * 10**6)

    guessed = verdict(EXAMPLE)
    finished(rows=rows(), peak=5 * GB)
    waiting = verdict(posted(when_no_worker="wait"))

    assert "by an estimate" in told(guessed.warnings)[HANDLER]
    assert "as 1 runs" in told(waiting.warnings)[HANDLER]
    assert guessed.workflow is not None
    assert waiting.workflow is not None


def test_a_new_version_of_a_dataset_is_known_at_once(dataset):
    before = verdict(EXAMPLE).estimate.rows
    dataset.manifest["instruments"]["DDD"] = dataset.manifest["instruments"]["AAA"]
    dataset.manifest["markets"]["all"].append("DDD")
    dataset.version = "v2"
    dataset.save(update_fields=["manifest", "version", "updated_at"])

    assert verdict(EXAMPLE).estimate.rows == before * 4 // 3

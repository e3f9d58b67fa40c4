"""An administrator's own classes: read like Qlib's, offered to workflows, and really trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.workflow_cases import changed, checked, faults
from tests.engine.small_store import write_store
from training import catalogue
from training.engine import build_own_catalogue

pytestmark = pytest.mark.qlib
pytest.importorskip("qlib")

ROOT = Path(__file__).resolve().parents[2]
CODE = '''
import numpy as np, pandas as pd
from qlib.data.dataset.handler import DataHandlerLP
from qlib.data.dataset.processor import Processor
from qlib.data.ops import Rolling
from qlib.model.base import Model

class Follow(Model):
    """Predicts one column, times a weight."""
    def __init__(self, column=0, weight=1.0, mode="plain", path=None):
        self.column, self.weight = column, weight
    def fit(self, dataset):
        dataset.prepare("train", col_set=["feature", "label"])
    def predict(self, dataset, segment="test"):
        return self.weight * dataset.prepare(segment, col_set="feature").iloc[:, self.column]

class Clip(Processor):
    def __init__(self, limit=3.0):
        self.limit = limit
    def __call__(self, df):
        df[df.columns] = df.clip(-self.limit, self.limit)
        return df

class Few(DataHandlerLP):
    """Two features of its own."""
    def __init__(self, instruments="all", start_time=None, end_time=None, infer_processors=[]):
        config = {"feature": [["Spread($high, 5)", "$close/$open"], ["A", "B"]],
                  "label": [["Ref($close, -2)/Ref($close, -1)-1"], ["LABEL0"]]}
        loader = {"class": "QlibDataLoader", "kwargs": {"config": config}}
        super().__init__(instruments=instruments, start_time=start_time, end_time=end_time,
                         data_loader=loader, infer_processors=infer_processors)

class Spread(Rolling):
    """Largest less smallest of a window."""
    def __init__(self, feature, N):
        super().__init__(feature, N, "spread")
    def _load_internal(self, instrument, start_index, end_index, *args):
        series = self.feature.load(instrument, start_index, end_index, *args)
        rolled = series.rolling(self.N, min_periods=1)
        return rolled.max() - rolled.min()
'''
LIST = """
[[class]]
slot = "model"
path = "acme.parts.Follow"
dataset = "DatasetH"
[class.rules]
column = "int 0..10"
mode = "choice plain|fancy"
path = "refuse it reads a file"

[[class]]
slot = "processor"
path = "acme.parts.Clip"

[[class]]
slot = "handler"
path = "acme.parts.Few"

[[class]]
slot = "operator"
path = "acme.parts.Spread"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The administrator's package, installed, and the list of what it offers."""
    folder = tmp_path / "packages" / "acme"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "parts.py").write_text(CODE)
    source = tmp_path / "own_classes.toml"
    source.write_text(LIST)
    monkeypatch.syspath_prepend(folder.parent)
    yield source
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


@pytest.fixture
def listed(package, monkeypatch):
    """The same, read and named by the setting."""
    read(package, monkeypatch)
    monkeypatch.setenv(catalogue.OWN_CLASSES, str(package))
    catalogue.load.cache_clear()
    yield package
    catalogue.load.cache_clear()


def read(source, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build_own_catalogue", str(source)])
    return build_own_catalogue.main()


def own_workflow(**kwargs):
    data = changed("task.model", {"class": "Follow", "module_path": "acme.parts", "kwargs": kwargs})
    data["task"]["dataset"]["kwargs"]["handler"] = {
        "class": "Few",
        "module_path": "acme.parts",
        "kwargs": {
            "instruments": "csi300",
            "infer_processors": [{"class": "Clip", "module_path": "acme.parts"}],
        },
    }
    return data


def test_a_listed_class_passes_with_its_defaults_made_explicit(listed):
    model = checked(own_workflow(weight=2)).config["task"]["model"]

    assert model == {
        "class": "Follow",
        "module_path": "acme.parts",
        "kwargs": {"weight": 2, "column": 0, "mode": "plain"},
    }


def test_without_the_setting_nobody_may_name_it(package):
    assert "task.model.class" in faults(own_workflow())


@pytest.mark.parametrize(
    ("kwargs", "place"),
    [
        ({"column": 11}, "task.model.kwargs.column"),
        ({"weight": "x"}, "task.model.kwargs.weight"),
        ({"mode": "other"}, "task.model.kwargs.mode"),
        ({"path": "/etc/passwd"}, "task.model.kwargs.path"),
        ({"columm": 1}, "task.model.kwargs.columm"),
    ],
)
def test_its_parameters_are_checked_as_the_list_says(listed, kwargs, place):
    assert place in faults(own_workflow(**kwargs))


def test_nothing_else_of_the_package_can_be_named(listed):
    data = own_workflow()
    data["task"]["model"] |= {"class": "np"}

    assert "task.model.class" in faults(data)


def test_its_dataset_is_the_one_that_the_list_says(listed):
    data = own_workflow()
    data["task"]["dataset"]["class"] = "TSDatasetH"

    assert faults(data) == {"task.dataset.class": "Follow needs DatasetH"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('column = "int 0..10"', "", ""),
        ('mode = "choice plain|fancy"', "", "what mode may be is not known"),
        ('mode = "choice plain|fancy"', 'mode = "wish"', "is no rule that is known"),
        ('mode = "choice plain|fancy"', 'mood = "text"', "has no parameter mood"),
        ("acme.parts.Follow", "acme.parts.Follows", "can't be imported"),
        ("acme.parts.Follow", "os.system", "is no class"),
        ("acme.parts.Spread", "qlib.data.ops.Mean", "the name Mean is taken"),
        ('slot = "handler"', 'slot = "record"', "its slot is one of"),
        ('dataset = "DatasetH"', 'datasets = "DatasetH"', "datasets is not known"),
        ("[[class]]", "[[class", "own_classes.toml"),
    ],
)
def test_a_list_that_says_too_little_is_refused(package, monkeypatch, capsys, before, after, told):
    package.write_text(LIST.replace(before, after, 1))

    code = read(package, monkeypatch)

    assert code == (1 if told else 0)
    assert told in capsys.readouterr().err


def test_a_list_that_has_changed_since_it_was_read_stops_the_start(listed):
    from training.checks import own_classes_were_read

    assert own_classes_were_read() == []
    listed.write_text(LIST + "\n")
    catalogue.load.cache_clear()

    (error,) = own_classes_were_read()
    assert "has changed; run python -m training.engine.build_own_catalogue" in str(error)


@pytest.mark.skipif("MARKET_DATA" not in os.environ, reason="MARKET_DATA names no folder")
def test_own_model_handler_processor_and_operator_train_and_predict(listed, tmp_path):
    store, folder = tmp_path / "store", tmp_path / "run"
    write_store(Path(os.environ["MARKET_DATA"]), store)
    folder.mkdir()
    task = own_workflow(weight=-1.0)["task"]
    task["dataset"]["kwargs"]["handler"]["kwargs"] |= {
        "instruments": "all",
        "start_time": "2017-01-03",
        "end_time": "2018-12-19",
    }
    task["dataset"]["kwargs"]["segments"] = {
        "train": ["2017-01-03", "2017-12-29"],
        "test": ["2018-09-24", "2018-12-19"],
    }
    record = {"class": "SignalRecord", "module_path": "qlib.workflow.record_temp", "kwargs": {}}
    task["record"] = [record]
    dataset = {"name": "sp50", "path": str(store), "region": "us", "fingerprint": "f1"}
    config = {"task": task, "platform": {}}
    job = {"task_id": "t", "attempt": 1, "config": config, "dataset": dataset, "threads": 1}
    spec = {"folder": str(folder), "task": task, "job": job, "order": None, "plain": False}
    paths = os.pathsep.join([str(ROOT), str(tmp_path / "packages")])

    subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("train_many.py"))],
        input=json.dumps(spec) + "\n",
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=True,
        capture_output=True,
    )

    told = json.loads((folder / "told.json").read_text())
    assert told["ended"] == "done", (folder / "log.txt").read_text()[-2000:]
    import pandas as pd

    prediction = pd.read_parquet(folder / "artifacts" / "predictions.parquet")
    score = prediction["score"]
    assert len(score) > 1000
    # The spread of five days' highs, clipped at 3, times -1.
    assert score.max() <= 0
    assert score.min() == -3

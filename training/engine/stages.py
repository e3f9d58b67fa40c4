"""A training from beginning to end: data, fit, predict, evaluate, backtest, save.

Our own copy of the steps of Qlib's `_exe_task` (qlib/model/trainer.py, 0.9.7), so that stages have
borders, fits report and can be ended, and a record that Qlib skips is seen. Same order, same
numbers, same artifact names.
"""

import copy
import gc
import importlib
import inspect
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from qlib.utils import fill_placeholder

from training.engine import features, outcomes, report, results
from training.engine.artifacts import ArtifactFolder
from training.engine.curves import Curves
from training.engine.failures import explain, record_skipped
from training.engine.features.columns import ScratchColumns
from training.engine.features.lean_handler import lean_handlers
from training.engine.features.loader import Evaluator, fast_loading
from training.engine.features.processors import fast_processors
from training.engine.features.shared import SharedColumns
from training.engine.fit import fit, needs_plateau_scheduler, plateau_scheduler
from training.engine.progress import FitWatch, watched_backtest, watched_loading
from training.engine.recipe import task_for_qlib
from training.engine.recorder import FolderRecorder
from training.engine.reporter import Reporter
from training.engine.session import cap_threads, prepare_libraries, session

log = logging.getLogger(__name__)

ARTIFACTS = Path("artifacts")
_STAGE_OF_RECORD = {
    "SignalRecord": ("predict", "Predicting"),
    "SigAnaRecord": ("evaluate", "Analysing the signal"),
    "HFSignalRecord": ("evaluate", "Analysing the signal"),
    "PortAnaRecord": ("backtest", "Simulating the portfolio"),
    "MultiPassPortAnaRecord": ("backtest", "Simulating the portfolio, several passes"),
}


def train(job: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Run one job in this process, whose working directory is its scratch folder.

    Returns: `metrics` (flat), `timings` (seconds by stage), `artifacts`, `data`, `versions`, and
    `stopped`: "finish" if the fit was ended early on request, else None.
    Raises: Cancelled; TrainingError with its code: RefusedConfig before anything is done,
    TrainingFailed out of a stage.
    """
    return Training(task_for_qlib(job["config"]), job, reporter).run()


class Training:
    """One run: the stages in order, and what passes from one to the next."""

    def __init__(self, task: dict[str, Any], job: dict[str, Any], reporter: Reporter) -> None:
        self.job = job
        # Qlib fills placeholders in place; the posted document stays as it is.
        self.task = cap_threads(copy.deepcopy(task), threads=job["threads"])
        self.reporter = reporter
        self.curves = Curves(reporter)
        self.recorder = FolderRecorder(artifacts=ArtifactFolder(ARTIFACTS), curves=self.curves)
        self.timings: defaultdict[str, float] = defaultdict(float)
        self.features: list[str] = []
        self.data: dict[str, Any] = {}
        self.stopped: str | None = None
        self.frequency: str | None = None
        self.evaluator = ""
        self.columns: SharedColumns | None = None

    def run(self) -> dict[str, Any]:
        with ExitStack() as stack:
            with self._stage("data", "Loading data"):
                stack.enter_context(session(self.job["dataset"], recorder=self.recorder))
                model, dataset = self._make_model(), self._make_dataset()
            with self._stage("fit", f"Fitting {type(model).__name__}"):
                self._fit(model, dataset)
            self._make_records(model, dataset)
            with self._stage("save", "Saving results"):
                self._save(model)
        if self.columns is not None:
            self.columns.check_unchanged()
        return self._result()

    @contextmanager
    def _stage(self, name: str, message: str) -> Iterator[None]:
        """Announces a stage, adds up its time, gives what it raises a code."""
        self.reporter.stage(name, message)
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            log.exception("Stage %s failed", name)
            raise explain(error, stage=name) from error
        finally:
            self.timings[name] += time.monotonic() - started

    # ── data ────────────────────────────────────────────────────────────────────────────

    def _make_model(self) -> Any:
        config = self.task["model"]
        seed = self.job["config"].get("platform", {}).get("seed", 0)
        prepare_libraries(config, threads=self.job["threads"], seed=seed)
        kwargs = config.setdefault("kwargs", {})
        if needs_plateau_scheduler(config["class"], kwargs):
            kwargs["scheduler"] = plateau_scheduler()
        return _build(config)

    def _make_dataset(self) -> Any:
        """All of the data work is in here: loading expressions, then the processors."""
        config = copy.copy(self.task["dataset"])
        config["kwargs"] = dict(config["kwargs"])
        with watched_loading(self.reporter) as show, self._evaluator(show):
            # Built apart, so that a TypeError in it does not make Qlib build it twice.
            config["kwargs"]["handler"] = _build(config["kwargs"]["handler"])
            dataset = _build(config)
        index = _first_frame(dataset.handler).index
        self.data = results.data_used(self.job["dataset"], index)
        return dataset

    @contextmanager
    def _evaluator(self, show: Callable[[int, int], None]) -> Iterator[None]:
        """Who computes the features: we, unless the worker is set to leave it to Qlib."""
        self.evaluator = "qlib"
        if self.job.get("evaluator") == "qlib":
            yield
            return
        threads = self.job["threads"]
        if self.job.get("shares_features"):
            self.columns = SharedColumns(self.reporter, threads=threads)
        evaluator = Evaluator(self.columns or ScratchColumns(Path()), threads, on_block=show)
        with fast_loading(evaluator), fast_processors(threads), lean_handlers(threads):
            yield
        if evaluator.computed:
            self.evaluator = f"platform {features.VERSION}"

    # ── fit ─────────────────────────────────────────────────────────────────────────────

    def _fit(self, model: Any, dataset: Any) -> None:
        watch = FitWatch(self.reporter, self.curves)
        rounds = self.job["config"].get("platform", {}).get("rounds")
        fit(model, dataset, watch=watch, rounds=rounds)
        self.stopped = "finish" if watch.finishing else None
        self.recorder.save_objects(**{"params.pkl": model})
        dataset.config(dump_all=False, recursive=True)
        self.recorder.save_objects(dataset=dataset)
        self.features = _feature_names(dataset.handler)
        _release(dataset.handler, "_learn")

    # ── predict, evaluate, backtest ─────────────────────────────────────────────────────

    def _make_records(self, model: Any, dataset: Any) -> None:
        found = self.task.get("record", [])
        configs = copy.deepcopy(found if isinstance(found, list) else [found])
        later_needs_data = results.mentions(configs, "<DATASET>")
        last_signal = max(
            (i for i, c in enumerate(configs) if c["class"] == "SignalRecord"), default=-1
        )
        filled = fill_placeholder({"record": configs}, {"<MODEL>": model, "<DATASET>": dataset})
        for number, config in enumerate(filled["record"]):
            name, message = _STAGE_OF_RECORD[config["class"]]
            with self._stage(name, message):
                self._make_record(config, {"model": model, "dataset": dataset})
            if number == last_signal and not later_needs_data:
                _release(dataset.handler, "_infer", "_data")

    def _make_record(self, config: dict[str, Any], available: dict[str, Any]) -> None:
        """Raises: TrainingFailed `record_skipped`, where Qlib would only warn."""
        record = _build(config, recorder=self.recorder, **_accepted(config, available))
        is_backtest = hasattr(record, "all_freq")
        passes = getattr(record, "pass_num", 1)
        kept = dict(self.recorder.metrics) if passes > 1 else {}
        with watched_backtest(self.reporter, passes=passes) if is_backtest else nullcontext():
            record.generate()
        # Each pass logs its own figures under the names of the plain backtest.
        self.recorder.metrics.update(kept)
        try:
            record.check(include_self=True)
        except FileNotFoundError as error:
            raise record_skipped(config["class"]) from error
        if is_backtest and self.frequency is None:
            self.frequency = record.all_freq[0]

    # ── save ────────────────────────────────────────────────────────────────────────────

    def _save(self, model: Any) -> None:
        """The config as it was asked for, and what the web shows."""
        artifacts = self.recorder.artifacts
        self.recorder.save_objects(task=self.job["config"]["task"])
        artifacts.write_json("config.json", self.job["config"])
        prediction = self._load("pred.pkl")
        if prediction is not None:
            artifacts.write(
                "predictions.parquet",
                lambda part: report.write_predictions(prediction, part),
            )
            artifacts.write(
                outcomes.FILE,
                lambda part: outcomes.write(
                    part,
                    prediction=prediction,
                    label=self._load("label.pkl"),
                    positions=self._positions(),
                ),
            )
        artifacts.write_json("report.json", self._report(model, prediction))

    def _report(self, model: Any, prediction: Any) -> dict[str, Any]:
        """Only the parts whose records were made."""
        parts: dict[str, Any] = {"version": report.VERSION}
        label = self._load("label.pkl")
        if prediction is not None and label is not None:
            parts["groups"] = report.group_returns(prediction.iloc[:, 0], label.iloc[:, 0])
        for folder in ("sig_analysis", "hg_sig_analysis"):
            ic, rank_ic = self._load(f"{folder}/ic.pkl"), self._load(f"{folder}/ric.pkl")
            if ic is not None:
                parts["ic"] = report.ic_series(ic, rank_ic)
        daily = self._load(f"portfolio_analysis/report_normal_{self.frequency}.pkl")
        if daily is not None:
            self.recorder.log_metrics(turnover=daily["turnover"].mean())
            parts["portfolio"] = report.portfolio_series(daily)
            parts["holdings"] = outcomes.holdings_series(self._positions() or {})
        parts["feature_importance"] = report.feature_importance(model, self.features)
        return parts

    def _positions(self) -> Any:
        """By day, of the outermost executor; None without a backtest."""
        return self._load(f"portfolio_analysis/positions_normal_{self.frequency}.pkl")

    def _load(self, name: str) -> Any:
        """An object that a record saved; None if no record did."""
        if not self.recorder.artifacts.locate(name).is_file():
            return None
        return self.recorder.load_object(name)

    def _result(self) -> dict[str, Any]:
        return {
            "metrics": results.flat_metrics(self.recorder.metrics),
            "timings": {name: round(seconds, 3) for name, seconds in self.timings.items()},
            "artifacts": [artifact.as_dict() for artifact in self.recorder.artifacts.list()],
            "data": {**self.data, "columns": len(self.features)},
            "versions": results.versions(self.task["model"]["module_path"])
            | {"evaluator": self.evaluator},
            "stopped": self.stopped,
        }


def _build(config: dict[str, Any], **extra: Any) -> Any:
    """The object that a config from the recipe names.

    Qlib's init_instance_by_config calls a constructor a second time after a TypeError in it.
    """
    return _class_of(config)(**{**config.get("kwargs", {}), **extra})


def _class_of(config: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(config["module_path"]), config["class"])


def _accepted(config: dict[str, Any], available: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that the record names in its constructor."""
    names = inspect.signature(_class_of(config)).parameters
    return {name: value for name, value in available.items() if name in names}


def _first_frame(handler: Any) -> Any:
    """The loaded rows; with `drop_raw` only the processed ones are left."""
    return vars(handler).get("_data", vars(handler).get("_infer"))


def _feature_names(handler: Any) -> list[str]:
    """Names of the columns that the fit saw, in their order."""
    frame = vars(handler).get("_learn", _first_frame(handler))
    columns = frame.columns
    if columns.nlevels == 1:
        return [str(name) for name in columns]
    return [str(name) for group, name in columns if group == "feature"]


def _release(handler: Any, *names: str) -> None:
    """Gives back the memory of frames that no later stage reads."""
    for name in names:
        if name in vars(handler):
            setattr(handler, name, None)
    gc.collect()

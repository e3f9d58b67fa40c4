"""Qlib, set up for exactly one training: data, our recorder, log, seeds, threads.

Qlib keeps its state in globals, hence one session per process, and never a second one.
"""

import importlib
import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# MLflow comes along with Qlib's import; it shall not send anything anywhere.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

import numpy as np
import qlib
from qlib.workflow import R
from qlib.workflow.recorder import Recorder

from training.catalogue import load
from training.engine.recorder import FolderRecorder

SEED = 0
# The leader stamps every line with its time.
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
_THREAD_KEYS = frozenset({"num_threads", "nthread", "thread_count", "n_jobs", "num_workers"})


@contextmanager
def session(dataset: dict[str, Any], *, recorder: FolderRecorder) -> Iterator[None]:
    """Qlib on one dataset with one recorder; the run ends as FINISHED or FAILED, also on a cancel.

    dataset: the job's `dataset`, of which `path` and `region` are used.
    """
    _log_to_stderr()
    qlib.init(
        provider_uri=dataset["path"],
        region=dataset["region"],
        # One process: several can't be cancelled and would exceed the share of cores.
        kernels=1,
        logging_config=None,
        expression_cache=None,
        dataset_cache=None,
        exp_manager=_exp_manager(recorder),
        custom_ops=[_operator(path) for path in load().own_operators],
    )
    # `R.start` ends a run on Exception only; a cancel is a BaseException.
    R.start_exp(experiment_name=recorder.name, recorder_name=recorder.name)
    status = Recorder.STATUS_FA
    try:
        yield
        status = Recorder.STATUS_FI
    finally:
        R.end_exp(status)


def prepare_libraries(model: dict[str, Any], *, threads: int, seed: int = SEED) -> None:
    """Load the model's library, then set its seeds and threads: torch draws weights on creation.

    model: `class` and `module_path` from the recipe, never from a user.
    """
    importlib.import_module(model["module_path"])
    random.seed(seed)
    # Qlib's models draw from numpy's global generator.
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(threads)


def cap_threads(value: Any, *, threads: int) -> Any:
    """A copy of a config in which no library is asked for more threads than the share.

    "All cores" is written as -1 or 0 (`n_jobs` 0 means "in this process" and stays).
    """
    if isinstance(value, list):
        return [cap_threads(item, threads=threads) for item in value]
    if not isinstance(value, dict):
        return value
    capped = {key: cap_threads(item, threads=threads) for key, item in value.items()}
    for key in _THREAD_KEYS & capped.keys():
        wanted = capped[key]
        too_many = isinstance(wanted, int) and (wanted > threads or wanted < 0)
        if too_many or (wanted == 0 and key != "n_jobs"):
            capped[key] = threads
    return capped


def _operator(path: str) -> Any:
    """The class of a dotted path that an administrator has listed."""
    module_path, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module_path), name)


def _exp_manager(recorder: FolderRecorder) -> dict[str, Any]:
    return {
        "class": "OneExperimentManager",
        "module_path": "training.engine.recorder",
        "kwargs": {"uri": str(recorder.artifacts.root), "recorder": recorder},
    }


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    for name in ("qlib", "training"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False

"""Runs trainings for the tests, each in its own fork, as Qlib's globals serve one only.

Reads one JSON line per training: {"folder", "task", "job", "order", "plain"}. The training's
working directory is `folder`; what it told and how it ended is written to `folder`/told.json, and
one line says so on stdout. Not imported by tests.
"""

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import qlib.contrib.evaluate
import qlib.contrib.model.gbdt
import qlib.contrib.strategy  # noqa: F401  (loaded once, before the forks)

with suppress(ImportError):
    import torch._dynamo  # noqa: F401  (seconds, at the first optimizer otherwise)

from training.engine import stages
from training.engine.reporter import Cancelled


class RecordingReporter:
    """Keeps what it is told; gives one order after a number of progress calls in a stage."""

    def __init__(self, order):
        self.wanted = order
        self.given = None
        self.stages = []
        self.progress_calls = []
        self.points = []
        self._in_stage = 0

    def stage(self, name, message=""):
        self.stages.append(name)
        self._in_stage = 0

    def progress(self, done, total, *, unit, message=""):
        self.progress_calls.append([self.stages[-1], done, total, unit, message])
        self._in_stage += 1
        wanted = self.wanted
        if wanted and wanted["stage"] == self.stages[-1] and self._in_stage >= wanted["after"]:
            self.given = wanted["op"]
        if self.given == "abort":
            raise Cancelled

    def metrics(self, points):
        self.points += [list(point) for point in points]

    def order(self):
        return self.given

    def flush(self):
        pass


def run(spec):
    reporter = RecordingReporter(spec["order"])
    told = {"result": None, "ended": "done", "code": None, "error": None}
    try:
        told["result"] = stages.train(spec["job"], reporter)
    except BaseException as error:
        traceback.print_exc()
        told |= {"ended": type(error).__name__, "error": str(error)}
        told["code"] = getattr(error, "code", None)
    told |= {
        "stages": reporter.stages,
        "progress": reporter.progress_calls,
        "points": reporter.points,
    }
    return told


def run_plainly(spec):
    """The same task through Qlib's own trainer and recorder."""
    import qlib
    from qlib.model.trainer import task_train

    manager = {
        "class": "MLflowExpManager",
        "module_path": "qlib.workflow.expm",
        "kwargs": {"uri": f"sqlite:///{os.getcwd()}/plain.db", "default_exp_name": "plain"},
    }
    dataset = spec["job"]["dataset"]
    qlib.init(
        provider_uri=dataset["path"], region=dataset["region"], kernels=1, exp_manager=manager
    )
    recorder = task_train(spec["task"], experiment_name="plain")
    recorder.load_object("pred.pkl").to_pickle("plain_pred.pkl")
    return {"metrics": recorder.list_metrics()}


def run_in_fork(spec):
    """Returns the exit code; only the child gets past the first lines."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(spec["folder"])
    os.environ |= {"HOME": spec["folder"], "GIT_DIR": "/nonexistent"}
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        told = run_plainly(spec) if spec["plain"] else run(spec)
        Path("told.json").write_text(json.dumps(told))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{run_in_fork(json.loads(line))}\n")
        sys.stdout.flush()

"""A completed task with its files, and real MLflow stores (SQLite, made once and copied)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training import archive
from training.models import TrainingTask
from training.states import Status

CONFIG = {
    "qlib_init": {"region": "us"},
    "task": {
        "model": {"class": "LGBModel", "kwargs": {"lr": 0.1, "verbose": True, "objective": ""}},
        "dataset": {"kwargs": {"segments": {"train": ["2010-01-01", "2012-12-31"]}}},
        "record": [{"class": "SignalRecord"}, {"class": "SigAnaRecord"}],
    },
}
FILES = {"pred.pkl": b"pred", "portfolio_analysis/report.pkl": b"report", "log.txt": b"a line\n"}


def curves(rounds: int) -> list[dict[str, Any]]:
    """Two curves, `rounds` points each, and one more value that was NaN."""
    points: list[dict[str, Any]] = [
        {"name": name, "step": step, "value": 1 / step, "at": f"2026-01-02T03:04:05.{step:06d}Z"}
        for step in range(1, rounds + 1)
        for name in ("train.l2@5", "valid.l2@5")
    ]
    points.append({**points[-1], "step": rounds + 1, "value": None})
    return points


@pytest.fixture
def completed(make_task: Callable[..., TrainingTask]) -> Callable[..., TrainingTask]:
    """Make a completed task with log, curves and two artifacts in its folder."""

    def make(*, rounds: int = 3, **fields: Any) -> TrainingTask:
        files = {**FILES, archive.CURVES: json.dumps(curves(rounds)).encode()}
        result = {
            "metrics": {"ic": 0.031, "max_drawdown": -0.2},
            "artifacts": [{"path": name, "bytes": len(text)} for name, text in files.items()],
            "data": {"fingerprint": "f" * 64},
            "versions": {"qlib": "0.9.7"},
        }
        columns = {"config": CONFIG, "name": "my run", "tags": ["a", "b"], **fields}
        task = make_task(status=Status.COMPLETED, result=result, **columns)
        for name, text in files.items():
            path = archive.folder(task) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        (archive.folder(task) / "stray.txt").write_text("nobody named me")
        return task

    return make


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: that takes seconds."""
    from training.export import to_mlflow

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    to_mlflow.connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow store of the test's own. It keeps files below the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"

"""A task in MLflow's terms: names, parameters, points, tags and files, within MLflow's limits.

No MLflow here. Everything is computed from what was recorded, and twice the same: MLflow refuses
a parameter that changes, and a retry must not make other points than the first try.
"""

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from training import archive
from training.models import TrainingTask
from training.sanitise import CUT_MARK

TASK_TAG = "qlib_platform.task_id"
MAX_KEY = 250
MAX_PARAM = 6_000
MAX_TAG = 5_000
MAX_PARAMS = 100
MAX_PARAM_CHARS = 120_000
"""Of one batch: MLflow refuses requests over 1 MB, and JSON may need six bytes a character."""

_NOT_IN_A_KEY = re.compile(r"[^/\w.\- :]")


@dataclass(frozen=True)
class Point:
    """One point of a curve, or a final metric (step 0); at_ms: Unix time in milliseconds."""

    name: str
    value: float
    at_ms: int
    step: int


def experiment(task: TrainingTask) -> str:
    """One experiment per dataset: runs on the same data are what one compares."""
    return f"qlib/{task.dataset}"


def run_name(task: TrainingTask) -> str:
    return task.name or task.id


def params(config: Mapping[str, Any]) -> dict[str, str]:
    """The workflow as flat parameters: `task.model.kwargs.lr`, `task.record.0.class`.

    Texts as they are; numbers, null, true and lists of such as JSON. Cut at 6,000 characters.
    """
    flat = dict(_flat(config, ""))
    names = legal_names(flat)
    return {names[name]: _cut(_text(value), MAX_PARAM) for name, value in flat.items()}


def param_batches(every: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The parameters in pieces that MLflow takes in one request."""
    batch: dict[str, str] = {}
    chars = 0
    for name, value in every.items():
        size = len(name) + len(value)
        if batch and (len(batch) == MAX_PARAMS or chars + size > MAX_PARAM_CHARS):
            yield batch
            batch, chars = {}, 0
        batch[name] = value
        chars += size
    if batch:
        yield batch


def points(task: TrainingTask) -> list[Point]:
    """The training curves, then the final metrics. Raises: OSError, if the curves are gone."""
    curves = [one for one in _curves(task) if one["value"] is not None]
    metrics = task.result.get("metrics", {})
    names = legal_names([*(one["name"] for one in curves), *metrics])
    ended_ms = _ms(task.completed_at)
    told = [
        Point(
            names[one["name"]],
            float(one["value"]),
            _ms(datetime.fromisoformat(one["at"])),
            one["step"],
        )
        for one in curves
    ]
    final = [
        Point(names[name], float(value), ended_ms, 0)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    return [*told, *final]


def tags(task: TrainingTask) -> dict[str, str]:
    """Where the result comes from; what is empty is left out."""
    owner = task.owner.get_username()
    data = task.result.get("data", {})
    every = {
        TASK_TAG: task.id,
        "qlib_platform.owner": owner,
        "qlib_platform.tags": ", ".join(task.tags),
        "qlib_platform.model": task.model,
        "qlib_platform.attempt": str(task.attempt),
        "qlib_platform.dataset": task.dataset,
        "qlib_platform.dataset_version": task.dataset_version,
        "qlib_platform.fingerprint": str(data.get("fingerprint", "")),
        "mlflow.user": owner,
        "mlflow.source.type": "JOB",
        "mlflow.source.name": "Qlib Platform",
    }
    versions = task.result.get("versions", {})
    every |= {f"qlib_platform.version.{name}": str(value) for name, value in versions.items()}
    return {name: _cut(value, MAX_TAG) for name, value in every.items() if value}


def files(task: TrainingTask) -> list[str]:
    """What is uploaded, below the attempt's folder: the manifest's files, log and curves.

    Raises: FileNotFoundError, if one that the manifest names is gone.
    """
    folder = archive.folder(task)
    named = [one["path"] for one in task.result.get("artifacts", [])]
    for path in named:
        if not _is_inside(folder, path):
            raise FileNotFoundError(f"the artifact {path} of {task.id} is gone")
    own = [name for name in (archive.LOG, archive.CURVES) if (folder / name).is_file()]
    return sorted({*named, *own})


def legal_names(names: Iterable[str]) -> dict[str, str]:
    """Each name as MLflow takes it, and two names never as the same.

    MLflow takes letters, digits and `/ . - _ :` and space, at most 250, in the form of a
    normalised relative path.
    """
    legal: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        wanted = chosen = _legal(name)
        number = 1
        while chosen in taken:
            number += 1
            chosen = f"{wanted[: MAX_KEY - 10]}_{number}"
        taken.add(chosen)
        legal[name] = chosen
    return legal


def _legal(name: str) -> str:
    safe = _NOT_IN_A_KEY.sub("_", name)[:MAX_KEY]
    if not safe or posixpath.normpath(safe) != safe or safe.startswith((".", "/")):
        safe = safe.replace("/", "_").replace("..", "__").lstrip(".") or "_"
    return safe


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Leaves with their dotted paths; a list of leaves is a leaf."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}.{number}")
    else:
        yield path, value


def _text(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT_MARK)] + CUT_MARK


def _curves(task: TrainingTask) -> list[dict[str, Any]]:
    """The kept curves; a task without any file had none."""
    path = archive.folder(task) / archive.CURVES
    if not path.exists() and not task.result.get("artifacts"):
        return []
    told: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return told


def _is_inside(folder: Path, path: str) -> bool:
    target = folder / path
    return target.is_file() and target.resolve().is_relative_to(folder.resolve())


def _ms(at: datetime | None) -> int:
    return round(at.timestamp() * 1000) if at else 0

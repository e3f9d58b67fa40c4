"""Speaks to the MLflow server. The only place of the Django side that imports mlflow.

A retry continues the run of the try before: found by the id that was kept, or by its tag
`qlib_platform.task_id` where the server made the run but its answer was lost. Parameters and
tags are the same again, points that are there already are not sent again, files replace
themselves; the run is `RUNNING` until all of it is there, then `FINISHED`.
"""

import os
import posixpath
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from training import archive
from training.errors import TrainingError
from training.models import TrainingTask

from . import records

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_POINTS = 1_000
"""Of one batch, as MLflow has it."""

_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

# The outbox tries again, with patience and in public; MLflow's own retries would repeat the
# making of a run whose answer was lost, and block for minutes where a server is gone.
_OWN_WAYS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class NotSendable(TrainingError):
    """The server is there, but a person must act before it can take the result."""

    code = "not_sendable"


def connect(uri: str) -> "MlflowClient":
    """A client of the server; nothing is asked of it yet."""
    for name, value in _OWN_WAYS.items():
        os.environ.setdefault(name, value)
    # Here, not above: MLflow reads the environment as it is imported, and takes seconds.
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def send(
    client: "MlflowClient",
    task: TrainingTask,
    *,
    run_id: str,
    keep_run: Callable[[str], None],
    step_done: Callable[[], None],
) -> None:
    """Send one result, whole.

    run_id: of an earlier try, or empty; keep_run: told the run's id as soon as it is known;
    step_done: called after each request or few, may raise to stop.
    Raises: what MLflow and the network raise, OSError for files that are gone, NotSendable.
    """
    run = _living_run(client, run_id) or _tagged_run(client, task)
    fresh = run is None
    if run is None:
        run = _create_run(client, task)
    current: str = run.info.run_id
    keep_run(current)
    _send_params_and_tags(client, task, current)
    step_done()
    known = set() if fresh else _known_points(client, run)
    for batch in _batches(point for point in records.points(task) if point not in known):
        _send_points(client, current, batch)
        step_done()
    folder = archive.folder(task)
    for path in records.files(task):
        client.log_artifact(current, str(folder / path), posixpath.dirname(path) or None)
        step_done()
    client.set_terminated(current, "FINISHED", end_time=_ms(task.completed_at))


def without_secrets(text: str, uri: str) -> str:
    """The text without the passwords we have: of the address and of the environment."""
    told = urlsplit(uri)
    userinfo = told.netloc.rpartition("@")[0]
    password = told.password or ""
    environment = [os.environ.get(name, "") for name in _SECRETS]
    for secret in [userinfo, password, unquote(password), *environment]:
        text = text.replace(secret, "***") if secret else text
    return text


def shown(uri: str) -> str:
    """The address as logs may have it: without user and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _living_run(client: "MlflowClient", run_id: str) -> Any:
    """The run of an earlier try; None if there was none, or if somebody deleted it."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _tagged_run(client: "MlflowClient", task: TrainingTask) -> Any:
    """The run that an earlier try made without hearing of it; None if there is none."""
    query = f"tags.`{records.TASK_TAG}` = '{task.id}'"
    experiment_id = _experiment(client, records.experiment(task))
    return next(iter(client.search_runs([experiment_id], query, max_results=1)), None)


def _create_run(client: "MlflowClient", task: TrainingTask) -> Any:
    return client.create_run(
        _experiment(client, records.experiment(task)),
        start_time=_ms(task.started_at),
        tags=records.tags(task),
        run_name=records.run_name(task),
    )


def _experiment(client: "MlflowClient", name: str) -> str:
    """The experiment's id; it is made if there is none. Raises: NotSendable."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            made: str = client.create_experiment(name)
        except MlflowException as error:
            # Another exporter was first.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return _experiment(client, name)
        return made
    if found.lifecycle_stage != "active":
        raise NotSendable(
            f"the experiment {name} was deleted in MLflow: restore it, or delete it for good"
        )
    known: str = found.experiment_id
    return known


def _send_params_and_tags(client: "MlflowClient", task: TrainingTask, run_id: str) -> None:
    from mlflow.entities import Param, RunTag

    for batch in records.param_batches(records.params(task.config)):
        client.log_batch(run_id, params=[Param(name, value) for name, value in batch.items()])
    # A run that was found may be of an older version of ours, with fewer tags.
    tags = [RunTag(name, value) for name, value in records.tags(task).items()]
    client.log_batch(run_id, tags=tags)


def _known_points(client: "MlflowClient", run: Any) -> set[records.Point]:
    """What an earlier try has sent. Not every store of MLflow drops a point that comes twice."""
    return {
        records.Point(name, one.value, one.timestamp, one.step)
        for name in run.data.metrics
        for one in client.get_metric_history(run.info.run_id, name)
    }


def _send_points(client: "MlflowClient", run_id: str, batch: list[records.Point]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(one.name, one.value, one.at_ms, one.step) for one in batch]
    client.log_batch(run_id, metrics=metrics)


def _batches(points: Iterator[records.Point]) -> Iterator[list[records.Point]]:
    while batch := list(islice(points, MAX_POINTS)):
        yield batch


def _ms(at: Any) -> int | None:
    """Unix time in milliseconds."""
    return round(at.timestamp() * 1000) if at else None

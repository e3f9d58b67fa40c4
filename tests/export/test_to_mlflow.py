"""Results in a real MLflow store, whatever breaks on the way."""

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from training import archive, lifecycle
from training.export import exporter, outbox, records, to_mlflow
from training.models import Export

pytestmark = [pytest.mark.django_db, pytest.mark.qlib]

CALLS = ("get_run", "get_experiment_by_name", "create_experiment", "search_runs", "create_run")
WRITES = ("log_batch", "log_artifact", "set_terminated")


class Gone(ConnectionError):
    """The server went away."""


class Breaking:
    """A client whose server goes at the n-th call, before or after having done it."""

    def __init__(self, client: Any, *, at: int, done: bool) -> None:
        self._client, self._left, self._done = client, at, done
        self.broke = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._counted(method) if name in CALLS + WRITES else method

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **words: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                self.broke = True
                if self._left == -1 and self._done:
                    method(*arguments, **words)
                raise Gone
            return method(*arguments, **words)

        return call


def runs_of(uri: str, dataset: str = "demo") -> list[Any]:
    client = to_mlflow.connect(uri)
    experiment = client.get_experiment_by_name(f"qlib/{dataset}")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def files_of(uri: str, run_id: str) -> dict[str, bytes]:
    from mlflow.artifacts import download_artifacts

    root = Path(download_artifacts(run_id=run_id, artifact_path="", tracking_uri=uri))
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def assert_whole(uri: str, task: Any) -> None:
    """One run, finished, with every parameter, point, tag and file exactly once."""
    (run,) = runs_of(uri)
    client = to_mlflow.connect(uri)
    names = {point.name for point in records.points(task)}
    told = [
        records.Point(name, one.value, one.timestamp, one.step)
        for name in names
        for one in client.get_metric_history(run.info.run_id, name)
    ]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "my run"
    assert run.info.end_time == round(task.completed_at.timestamp() * 1000)
    assert run.data.params == records.params(task.config)
    assert records.tags(task).items() <= run.data.tags.items()
    assert sorted(told, key=repr) == sorted(records.points(task), key=repr)
    folder = archive.folder(task)
    assert files_of(uri, run.info.run_id) == {
        name: (folder / name).read_bytes() for name in records.files(task)
    }
    row = Export.objects.get()
    assert (row.run_id, row.error) == (run.info.run_id, "")
    assert row.sent_at is not None


def make_due() -> None:
    Export.objects.update(next_at=Now() - timedelta(seconds=1))


def test_a_completed_task_arrives_whole_and_only_once(completed, settings, mlflow_uri):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    task = completed()

    call_command("export_mlflow", once=True)
    make_due()
    call_command("export_mlflow", once=True)

    assert_whole(mlflow_uri, task)
    assert Export.objects.get().tries == 1


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_wherever_the_server_breaks_the_retry_completes_the_same_run(
    completed, settings, mlflow_uri, monkeypatch, done
):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    monkeypatch.setattr(to_mlflow, "MAX_POINTS", 3)
    sound = to_mlflow.connect(mlflow_uri)
    broken = 0

    while True:
        task = completed()
        client = Breaking(sound, at=broken, done=done)
        monkeypatch.setattr(to_mlflow, "connect", lambda _uri, client=client: client)
        failures = exporter.once()
        if not client.broke:
            break
        assert failures == 1
        assert "Gone" in Export.objects.get().error
        monkeypatch.setattr(to_mlflow, "connect", lambda _uri: sound)
        make_due()

        assert exporter.once() == 0
        assert_whole(mlflow_uri, task)
        for run in runs_of(mlflow_uri):
            sound.delete_run(run.info.run_id)
        lifecycle.delete(task.id)
        broken += 1

    assert broken >= 14


def test_a_retry_sends_no_point_again(completed, settings, mlflow_uri, monkeypatch):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    task = completed(rounds=1_200)
    sound = to_mlflow.connect(mlflow_uri)
    sent: list[int] = []
    log_batch = type(sound).log_batch

    def counted(self: Any, run_id: str, metrics: Any = (), **words: Any) -> Any:
        if len(sent) == 2 and metrics:
            sent.append(0)
            raise Gone
        if metrics:
            sent.append(len(metrics))
        return log_batch(self, run_id, metrics=metrics, **words)

    monkeypatch.setattr(type(sound), "log_batch", counted)
    exporter.once()
    make_due()
    exporter.once()

    assert sent == [1000, 1000, 0, 402]
    assert_whole(mlflow_uri, task)


def test_a_dead_server_is_told_without_its_password_tried_again_and_found_when_it_is_back(
    completed, settings, mlflow_uri, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "sesame-token")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    settings.MLFLOW_TRACKING_URI = f"http://me:open-sesame@127.0.0.1:{port}"
    task = completed()

    with pytest.raises(CommandError, match="1 results could not be sent"):
        call_command("export_mlflow", once=True)
    call_command("export_mlflow", once=True)  # not due before its time

    row = Export.objects.get()
    assert (row.tries, row.sent_at, row.run_id) == (1, None, "")
    assert "127.0.0.1" in row.error
    assert "sesame" not in row.error + caplog.text
    task.refresh_from_db()
    assert task.status == "completed"
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    make_due()
    call_command("export_mlflow", once=True)
    assert_whole(mlflow_uri, task)


def test_no_secret_of_ours_survives_in_an_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "from-env")
    uri = "https://me:p%40ss@mlflow.example/base"

    told = to_mlflow.without_secrets(f"{uri} p@ss p%40ss from-env fell", uri)

    assert told == "https://***@mlflow.example/base *** *** *** fell"
    assert to_mlflow.shown(uri) == "https://mlflow.example/base"


def test_one_result_that_cannot_be_sent_does_not_stop_the_others(completed, settings, mlflow_uri):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    broken, sound = completed(dataset="other"), completed()
    (archive.folder(broken) / "pred.pkl").unlink()

    assert exporter.once() == 1

    assert Export.objects.get(pk=sound.pk).sent_at is not None
    row = Export.objects.get(pk=broken.pk)
    assert row.sent_at is None
    assert "pred.pkl" in row.error


def test_a_run_that_somebody_deleted_is_made_anew(completed, settings, mlflow_uri):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    task = completed()
    (archive.folder(task) / "pred.pkl").rename(archive.folder(task) / "away")
    exporter.once()
    client = to_mlflow.connect(mlflow_uri)
    client.delete_run(Export.objects.get().run_id)
    (archive.folder(task) / "away").rename(archive.folder(task) / "pred.pkl")
    make_due()

    exporter.once()

    assert_whole(mlflow_uri, task)


def test_a_deleted_experiment_is_told_in_words_that_help(completed, settings, mlflow_uri):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    client = to_mlflow.connect(mlflow_uri)
    client.delete_experiment(client.create_experiment("qlib/demo"))
    completed()

    exporter.once()

    assert "experiment qlib/demo was deleted in MLflow" in Export.objects.get().error


def test_a_stopped_exporter_gives_its_result_back_at_once(completed, settings, mlflow_uri):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    task = completed()
    answers = iter([False, False, True, True])

    exporter.once(stopped=lambda: next(answers))

    row = Export.objects.get()
    (run,) = runs_of(mlflow_uri)
    assert (row.sent_at, row.run_id) == (None, run.info.run_id)
    assert run.info.status == "RUNNING"
    assert exporter.once() == 0
    assert_whole(mlflow_uri, task)


def test_a_task_that_is_deleted_while_it_is_sent_stops_the_sending(
    completed, settings, mlflow_uri, monkeypatch
):
    settings.MLFLOW_TRACKING_URI = mlflow_uri
    task = completed()
    keep_run = outbox.keep_run

    def delete_then_keep(claim: outbox.Claim, run_id: str) -> None:
        lifecycle.delete(task.id)
        keep_run(claim, run_id)

    monkeypatch.setattr(outbox, "keep_run", delete_then_keep)

    assert exporter.once() == 0

    (run,) = runs_of(mlflow_uri)
    assert not run.data.metrics
    assert not Export.objects.exists()


def test_without_an_address_the_command_says_so(settings):
    settings.MLFLOW_TRACKING_URI = ""

    with pytest.raises(CommandError, match="PLATFORM_MLFLOW_TRACKING_URI is not set"):
        call_command("export_mlflow", once=True)

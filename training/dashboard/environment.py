"""What a task ran with and what it took: the rows of a table, only what is known."""

from collections.abc import Iterator

from training.models import TrainingTask, Worker
from training.states import Stage

from .words import duration, moment, size

Row = tuple[str, str]


def rows(task: TrainingTask) -> list[Row]:
    """Name and value, in the order in which one asks for them."""
    return [*_asked(task), *_times(task), *_memory(task), *_versions(task)]


def _asked(task: TrainingTask) -> Iterator[Row]:
    yield "Queue", task.queue
    yield "Priority", task.get_priority_display()
    if task.needs:
        yield "Needs", task.needs
    yield "Threads", str(task.threads)
    yield "Time limit", duration(task.timeout_s)


def _times(task: TrainingTask) -> Iterator[Row]:
    if task.started_at and task.stage != Stage.QUEUED:
        if task.attempt == 1:
            yield "Waited", duration((task.started_at - task.created_at).total_seconds())
        yield "Started", moment(task.started_at)
    if task.completed_at:
        yield "Ended", moment(task.completed_at)
    for stage, seconds in task.result.get("timings", {}).items():
        yield f"Time in {stage}", duration(seconds)


def _memory(task: TrainingTask) -> Iterator[Row]:
    # A worker that was started later may have other limits than the one of that name before.
    same = Worker.objects.filter(
        name=task.worker, started_at__lte=task.started_at or task.created_at
    )
    if limit := same.values_list("memory_bytes", flat=True).first():
        yield "Memory limit", size(limit)
    if peak := task.result.get("peak_memory_bytes"):
        yield "Peak memory", size(peak)


def _versions(task: TrainingTask) -> Iterator[Row]:
    for name, version in task.result.get("versions", {}).items():
        if name != "evaluator":
            yield name, version
        elif version:
            yield "Features computed by", _evaluator(version)
    if run_id := task.result.get("mlflow_run_id"):
        yield "MLflow run", run_id


def _evaluator(version: str) -> str:
    """As the engine names it: `qlib`, or `platform 1`, our own evaluator of expressions."""
    own, _, number = version.partition(" ")
    return f"this platform's evaluator, version {number}" if own == "platform" else "Qlib"

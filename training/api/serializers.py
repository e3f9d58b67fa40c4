"""The shapes of what is answered, for the schema. The values come from `events.to_wire` and kin;
`tests/api/test_schema.py` holds both together.
"""

from typing import Any

from rest_framework import serializers

from training.states import EventKind, Priority, Stage, Status


class FaultShape(serializers.Serializer[Any]):
    """One thing that is wrong, or worth a warning, and where."""

    path = serializers.CharField(help_text="dotted, list items by number: `task.record.0`")
    message = serializers.CharField()
    hint = serializers.CharField(required=False)
    line = serializers.IntegerField(required=False, help_text="of posted YAML, from 1")
    column = serializers.IntegerField(required=False, help_text="of posted YAML, from 1")


class ErrorDetail(serializers.Serializer[Any]):
    """A stable code for programs, a sentence for people."""

    code = serializers.CharField()
    message = serializers.CharField()
    fields = FaultShape(many=True, required=False)  # type: ignore[assignment]


class ErrorShape(serializers.Serializer[Any]):
    """The one shape of all errors."""

    error = ErrorDetail()


class ArtifactShape(serializers.Serializer[Any]):
    """A file of a finished training."""

    path = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class TaskRowShape(serializers.Serializer[Any]):
    """A task as lists have it: all of it but `config` and `posted`, which may be large."""

    id = serializers.CharField()
    name = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    owner = serializers.CharField()
    status = serializers.ChoiceField(choices=Status.choices)
    stage = serializers.ChoiceField(choices=Stage.choices)
    progress = serializers.FloatField(min_value=0, max_value=100)
    message = serializers.CharField()
    dataset = serializers.CharField()
    dataset_version = serializers.CharField()
    model = serializers.CharField()
    warnings = FaultShape(many=True)
    result = serializers.DictField(
        help_text="empty until completed; its `features` has hits, misses, bytes_read, "
        "bytes_written, damaged (columns of the shared store) and waited_for (task ids)"
    )
    error = serializers.CharField()
    error_code = serializers.CharField()
    queue = serializers.CharField()
    needs = serializers.CharField()
    priority = serializers.ChoiceField(choices=Priority.labels)
    threads = serializers.IntegerField()
    timeout_s = serializers.IntegerField()
    worker = serializers.CharField()
    attempt = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    retry_of = serializers.CharField(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    finish_requested_at = serializers.DateTimeField(allow_null=True)
    pinned = serializers.BooleanField()
    last_seq = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)


class TaskShape(TaskRowShape):
    """A task, whole."""

    config = serializers.DictField(help_text="the workflow as it runs")
    posted = serializers.CharField(help_text="the workflow as it came")


class SubmissionShape(serializers.Serializer[Any]):
    """A task was made, or is the one that this Idempotency-Key has made before."""

    task_id = serializers.CharField()
    status = serializers.CharField(help_text="always `success`; the task's own is in `task`")
    message = serializers.CharField()
    task = TaskShape()
    warnings = FaultShape(many=True)


class EstimateShape(serializers.Serializer[Any]):
    """How large a run will be; times only where runs like it have finished here."""

    rows = serializers.IntegerField(help_text="days by instruments, an upper bound")
    columns = serializers.IntegerField(allow_null=True)
    memory_bytes = serializers.IntegerField(allow_null=True, help_text="the peak")
    memory_learned_from = serializers.IntegerField(help_text="finished runs; 0: Qlib's own need")
    seconds = serializers.FloatField(required=False)
    seconds_by_stage = serializers.DictField(child=serializers.FloatField(), required=False)


class VerdictShape(serializers.Serializer[Any]):
    """What the check of a workflow says."""

    valid = serializers.BooleanField()
    faults = FaultShape(many=True)
    warnings = FaultShape(many=True)
    estimate = EstimateShape(allow_null=True, help_text="null where there are faults")


class EventShape(serializers.Serializer[Any]):
    """What happened to a task, and its state then."""

    type = serializers.ChoiceField(choices=EventKind.choices)
    task_id = serializers.CharField()
    seq = serializers.IntegerField()
    attempt = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Status.choices)
    progress = serializers.FloatField()
    stage = serializers.ChoiceField(choices=Stage.choices)
    message = serializers.CharField()
    timestamp = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]


class PointShape(serializers.Serializer[Any]):
    """A point of a training curve; null where the training gave NaN or an infinity."""

    name = serializers.CharField()
    step = serializers.IntegerField()
    value = serializers.FloatField(allow_null=True)
    at = serializers.DateTimeField()


class DatasetShape(serializers.Serializer[Any]):
    """A market that workflows can name, and its health."""

    name = serializers.CharField()
    region = serializers.CharField()
    version = serializers.CharField()
    fingerprint = serializers.CharField()
    rows = serializers.IntegerField()
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    instruments = serializers.IntegerField()
    synthetic = serializers.BooleanField(help_text="made by a program, not by a market")
    available = serializers.BooleanField(help_text="its files are where this server looks")
    updated_at = serializers.DateTimeField()


class PauseShape(serializers.Serializer[Any]):
    """Days between which nothing was traded for long."""

    last_before = serializers.DateField()
    first_after = serializers.DateField()
    days = serializers.IntegerField()


class ByDayShape(serializers.Serializer[Any]):
    """How many instruments are between their first and last day."""

    days = serializers.ListField(child=serializers.DateField())
    instruments = serializers.ListField(child=serializers.IntegerField())


class VersionShape(serializers.Serializer[Any]):
    """A version whose files are here."""

    version = serializers.CharField()
    current = serializers.BooleanField()
    imported_at = serializers.DateTimeField()
    rows = serializers.IntegerField(allow_null=True, help_text="null where it can't be read")


class HealthNoteShape(serializers.Serializer[Any]):
    """What is worth a look."""

    code = serializers.ChoiceField(
        choices=["files_missing", "synthetic", "stale", "holes", "pauses"]
    )
    message = serializers.CharField()


class GapShape(serializers.Serializer[Any]):
    """An instrument that lacks days between its first and its last."""

    instrument = serializers.CharField()
    days = serializers.IntegerField()


class CoverageShape(serializers.Serializer[Any]):
    """What there is of a dataset."""

    day_count = serializers.IntegerField()
    age_days = serializers.IntegerField(help_text="since its last day")
    completeness = serializers.FloatField(
        allow_null=True,
        help_text="rows there are, of those that the instruments' spans promise; null where the"
        " import did not count them by instrument",
    )
    gaps = serializers.IntegerField(allow_null=True, help_text="rows that are missing of those")
    gappy = GapShape(many=True, help_text="the instruments with most gaps, ten at most")
    ended = serializers.IntegerField(help_text="instruments that ended before the last day")
    pauses = PauseShape(many=True)
    by_day = ByDayShape()
    fields = serializers.ListField(child=serializers.CharField())  # type: ignore[assignment]
    markets = serializers.DictField(child=serializers.IntegerField(), help_text="members by name")
    benchmarks = serializers.ListField(child=serializers.CharField())
    vwap = serializers.CharField(help_text="where it comes from, if not from the files")
    versions = VersionShape(many=True)
    health = HealthNoteShape(many=True, help_text="empty where all is well")


class CoveredDatasetShape(DatasetShape):
    """A market with its coverage."""

    coverage = CoverageShape()


class QueueShape(serializers.Serializer[Any]):
    """A queue's load, over all owners."""

    name = serializers.CharField()
    pending = serializers.IntegerField()
    running = serializers.IntegerField()
    workers = serializers.IntegerField(help_text="seen lately, and not draining")
    oldest_pending_s = serializers.FloatField(
        allow_null=True, help_text="how long the oldest pending task has waited"
    )


class FeatureStoreShape(serializers.Serializer[Any]):
    """The shared store of features. Hits and misses count columns; one per feature of a loading."""

    columns = serializers.IntegerField(help_text="in the store")
    making = serializers.IntegerField(help_text="being made by a running task")
    bytes = serializers.IntegerField()
    limit_bytes = serializers.IntegerField(help_text="0: nothing is shared")
    hits = serializers.IntegerField(help_text="found by a task that had not made them")
    misses = serializers.IntegerField(help_text="made by the task that asked")
    bytes_read = serializers.IntegerField()
    bytes_written = serializers.IntegerField()
    damaged = serializers.IntegerField(help_text="found damaged or gone, and made anew")
    evicted = serializers.IntegerField(help_text="removed to make room")


class WorkerShape(serializers.Serializer[Any]):
    """A worker, and what it runs."""

    name = serializers.CharField()
    host = serializers.CharField()
    pid = serializers.IntegerField()
    queue = serializers.CharField()
    alive = serializers.BooleanField(help_text="was seen within the last seconds")
    draining = serializers.BooleanField(help_text="takes no more tasks")
    busy = serializers.BooleanField(help_text="runs a task, whoever's it is")
    tasks = serializers.ListField(
        child=serializers.CharField(), help_text="those it runs that the caller may see"
    )
    cores = serializers.IntegerField(help_text="threads of one training")
    memory_bytes = serializers.IntegerField(help_text="of one training")
    used_bytes = serializers.IntegerField(help_text="by all its processes, when last seen")
    extras = serializers.ListField(child=serializers.CharField())
    versions = serializers.DictField(child=serializers.CharField())
    started_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField()


class PresetShape(serializers.Serializer[Any]):
    """A workflow to start from, fitted to a dataset."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    model = serializers.CharField()
    handler = serializers.CharField()
    needs = serializers.CharField(help_text="empty, `xgboost`, `catboost` or `torch`")
    runnable = serializers.BooleanField(help_text="a worker that is here has what it needs")
    dataset = serializers.CharField()
    workflow = serializers.CharField(help_text="YAML, complete: post it to `/api/train`")


class TaskPage(serializers.Serializer[Any]):
    """A page of tasks."""

    results = TaskRowShape(many=True)
    next = serializers.URLField(allow_null=True)


class EventPage(serializers.Serializer[Any]):
    """A page of events, oldest first."""

    results = EventShape(many=True)
    next = serializers.URLField(allow_null=True)


class PointPage(serializers.Serializer[Any]):
    """Points, by name and step."""

    results = PointShape(many=True)
    next = serializers.URLField(allow_null=True)


class ArtifactPage(serializers.Serializer[Any]):
    """All files of a finished task."""

    results = ArtifactShape(many=True)
    next = serializers.URLField(allow_null=True)


class DatasetPage(serializers.Serializer[Any]):
    """All datasets."""

    results = DatasetShape(many=True)
    next = serializers.URLField(allow_null=True)


class WorkerPage(serializers.Serializer[Any]):
    """All workers."""

    results = WorkerShape(many=True)
    next = serializers.URLField(allow_null=True)


class PresetPage(serializers.Serializer[Any]):
    """All presets, fitted to one dataset."""

    results = PresetShape(many=True)
    next = serializers.URLField(allow_null=True)


class QueuePage(serializers.Serializer[Any]):
    """All queues."""

    results = QueueShape(many=True)
    next = serializers.URLField(allow_null=True)


class HealthShape(serializers.Serializer[Any]):
    """The platform, or this process of it, is well."""

    status = serializers.CharField()

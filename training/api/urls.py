"""The API's routes. No trailing slashes; each is tried in `tests/api/test_access.py`."""

from django.urls import path, re_path, register_converter
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from . import (
    artifacts,
    compare,
    curves,
    datasets,
    features,
    health,
    history,
    leaderboard,
    logs,
    metrics,
    predictions,
    presets,
    queues,
    reports,
    schema,
    submit,
    tasks,
    workers,
)


class TaskId:
    """`task-` and a UUID; nothing else reaches a view, or the database."""

    regex = "task-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class Nowhere(APIView):
    """Every other address under /api: the error in the API's own shape."""

    authentication_classes = []
    permission_classes = []
    schema = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        raise NotFound("There is no such address")


register_converter(TaskId, "task")

_TASK = "api/tasks/<task:task_id>"

urlpatterns = [
    path("api/train", submit.Train.as_view(), name="train"),
    path("api/validate", submit.Validate.as_view(), name="validate"),
    path("api/tasks", tasks.TaskList.as_view(), name="tasks"),
    path(_TASK, tasks.TaskDetail.as_view(), name="task"),
    path(f"{_TASK}/cancel", tasks.TaskCancel.as_view(), name="task-cancel"),
    path(f"{_TASK}/finish", tasks.TaskFinish.as_view(), name="task-finish"),
    path(f"{_TASK}/pin", tasks.TaskPin.as_view(), name="task-pin"),
    path(f"{_TASK}/unpin", tasks.TaskUnpin.as_view(), name="task-unpin"),
    path(f"{_TASK}/retry", tasks.TaskRetry.as_view(), name="task-retry"),
    path(f"{_TASK}/events", history.TaskEvents.as_view(), name="task-events"),
    path(f"{_TASK}/log", logs.TaskLog.as_view(), name="task-log"),
    path(f"{_TASK}/metrics", curves.TaskMetrics.as_view(), name="task-metrics"),
    path(f"{_TASK}/report", reports.TaskReport.as_view(), name="task-report"),
    path(f"{_TASK}/predictions", predictions.TaskPredictions.as_view(), name="task-predictions"),
    path(f"{_TASK}/positions", predictions.TaskPositions.as_view(), name="task-positions"),
    path(f"{_TASK}/artifacts", artifacts.TaskArtifacts.as_view(), name="task-artifacts"),
    path(f"{_TASK}/artifacts/<path:path>", artifacts.TaskArtifact.as_view(), name="task-artifact"),
    path("api/datasets", datasets.DatasetList.as_view(), name="datasets"),
    path("api/datasets/<slug:name>", datasets.DatasetDetail.as_view(), name="dataset"),
    path("api/features", features.FeatureStore.as_view(), name="features"),
    path("api/compare", compare.Compare.as_view(), name="compare"),
    path("api/leaderboard", leaderboard.Leaderboard.as_view(), name="leaderboard"),
    path("api/presets", presets.PresetList.as_view(), name="presets"),
    path("api/presets/<slug:name>", presets.PresetDetail.as_view(), name="preset"),
    path("api/queues", queues.QueueList.as_view(), name="queues"),
    path("api/workers", workers.WorkerList.as_view(), name="workers"),
    path("api/workers/<str:name>/drain", workers.WorkerDrain.as_view(), name="worker-drain"),
    path("api/workers/<str:name>/resume", workers.WorkerResume.as_view(), name="worker-resume"),
    path("api/schema", schema.Schema.as_view(), name="schema"),
    path("api/docs", schema.Docs.as_view(), name="docs"),
    path("api/docs/<str:name>", schema.docs_asset, name="docs-asset"),
    path("healthz", health.Alive.as_view(), name="healthz"),
    path("readyz", health.Ready.as_view(), name="readyz"),
    path("metrics", metrics.Metrics.as_view(), name="metrics"),
    re_path(r"^api(?:/.*)?$", Nowhere.as_view(), name="nowhere"),
]

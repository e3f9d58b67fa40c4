"""Tasks: the list, one of them, and what can be asked of it."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import services
from training.errors import NotFound
from training.events import instant, task_to_wire
from training.models import TrainingTask
from training.states import Priority
from training.task_lists import wanted

from . import queries, serializers
from .authentication import caller
from .bodies import Unread
from .composed import Composed
from .pagination import next_url, page
from .schema import failures
from .submit import submitted

LISTED = {
    name: {"owner": "owner__username", "retry_of": "retry_of_id"}.get(name, name)
    for name in (
        "id", "name", "tags", "owner", "status", "stage", "progress", "message", "dataset",
        "dataset_version", "model", "warnings", "result", "error", "error_code", "queue", "needs",
        "priority", "threads", "timeout_s", "worker", "attempt", "max_attempts", "retry_of",
        "cancel_requested_at", "finish_requested_at", "pinned", "last_seq", "created_at",
        "started_at", "completed_at",
    )
}  # fmt: skip
"""What lists show of a task, by the column that has it: all but `config` and `posted`."""

SHOWN = {**LISTED, "config": "config", "posted": "posted"}
"""What a task's own page shows. Both are read as rows: a model would take twice the time."""

ANY_TASK = Composed(lambda pk: _shown(pk=pk), "task")
OWN_TASK = Composed(lambda pk, owner: _shown(pk=pk, owner_id=owner), "task", 0)


def _shown(**which: str | int) -> Any:
    return TrainingTask.objects.filter(**which).values_list(*SHOWN.values())


def _row(task_id: str, *, user: AbstractBaseUser) -> tuple[Any, ...]:
    """What the caller sees of the task, as `visible_to` has it. Raises: NotFound."""
    is_staff = getattr(user, "is_staff", False)
    found = ANY_TASK.ask(task_id) if is_staff else OWN_TASK.ask(task_id, user.pk)
    if found and user.is_active:
        return found[0]
    raise NotFound(f"there is no task {task_id}")


INSTANTS = [name for name in LISTED if name.endswith("_at")]


class TaskList(APIView):
    """All tasks that the caller may see."""

    @extend_schema(
        operation_id="list_tasks",
        parameters=[queries.TaskListQuery],
        responses={200: serializers.TaskPage, **failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Tasks, newest first, without their `config` and `posted`."""
        asked = queries.read(request, queries.TaskListQuery)
        mine = TrainingTask.objects.visible_to(request.user)
        found = page(
            mine.filter(wanted(asked)),
            list(LISTED.values()),
            ordering=asked["ordering"],
            cursor=asked.get("cursor", ""),
            limit=asked["limit"],
        )
        following = next_url(request, cursor=found.cursor) if found.cursor else None
        told = [_to_wire(row, LISTED) for row in found.tasks]
        return Response({"results": told, "next": following})


def _to_wire(row: tuple[Any, ...], names: Iterable[str]) -> dict[str, Any]:
    """The row's task as `task_to_wire` has it. A list's row may end with what orders it."""
    told = dict(zip(names, row, strict=False))
    told["priority"] = Priority(told["priority"]).label
    return told | {name: instant(told[name]) for name in INSTANTS}


class TaskDetail(APIView):
    """One task."""

    @extend_schema(
        operation_id="get_task", responses={200: serializers.TaskShape, **failures(400, 404)}
    )
    def get(self, request: Request, task_id: str) -> Response:
        """The task as it is now."""
        queries.read(request, queries.NoQuery)
        return Response(_to_wire(_row(task_id, user=caller(request)), SHOWN))

    @extend_schema(operation_id="delete_task", responses={204: None, **failures(403, 404, 409)})
    def delete(self, request: Request, task_id: str) -> Response:
        """Remove a final task with its artifacts; its listeners are told."""
        services.delete(task_id, user=caller(request))
        return Response(status=204)


class TaskCancel(APIView):
    """The wish to cancel."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="cancel_task",
        request=None,
        responses={202: serializers.TaskShape, **failures(403, 404, 409)},
    )
    def post(self, request: Request, task_id: str) -> Response:
        """Cancel: at once if pending, within seconds if running. Asked again: the same."""
        task = services.cancel(task_id, user=caller(request))
        return Response(task_to_wire(task), status=202)


class TaskFinish(APIView):
    """The wish to end the fit early."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="finish_task",
        request=None,
        responses={202: serializers.TaskShape, **failures(403, 404, 409)},
    )
    def post(self, request: Request, task_id: str) -> Response:
        """End the fit now, keep the best so far, go on with predictions and records.

        While data are loaded the fit will end after its first step; in any other stage: 409.
        Another attempt of the task begins without the wish.
        """
        task = services.finish(task_id, user=caller(request))
        return Response(task_to_wire(task), status=202)


class TaskPin(APIView):
    """The wish to keep it."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="pin_task",
        request=None,
        responses={200: serializers.TaskShape, **failures(403, 404)},
    )
    def post(self, request: Request, task_id: str) -> Response:
        """Keep the task from cleaning and deletion."""
        return _pinned(request, task_id, pinned=True)


class TaskUnpin(APIView):
    """The wish to let it go again."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="unpin_task",
        request=None,
        responses={200: serializers.TaskShape, **failures(403, 404)},
    )
    def post(self, request: Request, task_id: str) -> Response:
        """Let the task be cleaned away and deleted again."""
        return _pinned(request, task_id, pinned=False)


def _pinned(request: Request, task_id: str, *, pinned: bool) -> Response:
    user = caller(request)
    services.pin(task_id, user=user, pinned=pinned)
    return Response(task_to_wire(services.visible(task_id, user=user)))


class TaskRetry(APIView):
    """The wish to run it again."""

    parser_classes = [Unread]

    @extend_schema(
        operation_id="retry_task",
        request=None,
        responses={201: serializers.SubmissionShape, **failures(400, 403, 404, 409)},
    )
    def post(self, request: Request, task_id: str) -> Response:
        """Make a new task with the same config; `retry_of` names this one."""
        task = services.retry(task_id, user=caller(request))
        return submitted(task, message=f"retries {task_id}", status=201)

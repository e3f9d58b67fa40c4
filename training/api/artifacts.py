"""The files of a finished task: the list, and each as a download."""

from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import archive, services
from training.errors import NotFound
from training.models import TrainingTask

from . import queries, serializers
from .authentication import caller
from .conditional import KNOWN
from .negotiation import AnyAccept
from .ranges import download
from .schema import failures


class TaskArtifacts(APIView):
    """What a training has left."""

    @extend_schema(
        operation_id="list_artifacts",
        responses={200: serializers.ArtifactPage, **failures(400, 404)},
    )
    def get(self, request: Request, task_id: str) -> Response:
        """All files, with size and hash; none until the task is completed."""
        queries.read(request, queries.NoQuery)
        task = services.visible(task_id, user=caller(request))
        return Response({"results": _manifest(task), "next": None})


class TaskArtifact(APIView):
    """One file of a task."""

    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="get_artifact",
        parameters=[
            OpenApiParameter("path", str, OpenApiParameter.PATH, description="as listed"),
            OpenApiParameter(
                "Range", str, OpenApiParameter.HEADER, description="one range: `bytes=0-1023`"
            ),
        ],
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (206, "application/octet-stream"): OpenApiTypes.BINARY,
            **KNOWN,
            **failures(400, 404, 416, 503),
        },
    )
    def get(self, request: Request, task_id: str, path: str) -> HttpResponseBase:
        """The file, or one range of its bytes."""
        queries.read(request, queries.NoQuery)
        task = services.visible(task_id, user=caller(request))
        entry = next((one for one in _manifest(task) if one["path"] == path), None)
        if entry is None:
            raise NotFound(f"{task_id} has no artifact of this name")
        root = archive.folder(task).resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            raise NotFound(f"the artifact {path} is listed, but its file is gone")
        return download(request._request, file, etag=entry["sha256"])


def _manifest(task: TrainingTask) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = task.result.get("artifacts", [])
    return listed

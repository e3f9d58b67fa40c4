"""Submitting a workflow."""

import re
from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import preflight, services
from training.events import task_to_wire
from training.models import TrainingTask

from . import bodies, serializers
from .authentication import caller
from .schema import failures

_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, response=[201, 200], description="the task"
)
EXAMPLE: dict[str, Any] = {
    "qlib_init": {"provider_uri": "demo", "region": "us"},
    "task": {
        "model": {
            "class": "LGBModel",
            "module_path": "qlib.contrib.model.gbdt",
            "kwargs": {"num_leaves": 64, "num_boost_round": 200},
        },
        "dataset": {
            "class": "DatasetH",
            "module_path": "qlib.data.dataset",
            "kwargs": {
                "handler": {
                    "class": "Alpha158",
                    "module_path": "qlib.contrib.data.handler",
                    "kwargs": {"instruments": "all"},
                },
                "segments": {
                    "train": ["2013-01-01", "2016-12-31"],
                    "valid": ["2017-01-01", "2017-12-31"],
                    "test": ["2018-01-01", "2018-12-31"],
                },
            },
        },
        "record": [
            {"class": "SignalRecord", "module_path": "qlib.workflow.record_temp", "kwargs": {}}
        ],
    },
    "platform": {"name": "my first", "tags": ["try"], "priority": "normal"},
}


class Train(APIView):
    """Where workflows go in."""

    parser_classes = [bodies.Unread]

    @extend_schema(
        operation_id="train",
        request={bodies.JSON: OpenApiTypes.OBJECT, bodies.YAML: OpenApiTypes.OBJECT},
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="within 24 hours it answers with its first task, while that exists",
            ),
            _LOCATION,
        ],
        examples=[OpenApiExample("A workflow", value=EXAMPLE, request_only=True)],
        responses={
            201: OpenApiResponse(serializers.SubmissionShape, description="The task was made"),
            200: OpenApiResponse(
                serializers.SubmissionShape, description="This key has made the task before"
            ),
            **failures(400, 403, 409, 413, 415),
        },
    )
    def post(self, request: Request) -> Response:
        """Submit a Qlib workflow, the document that `qrun` takes, as JSON or YAML."""
        kind = bodies.kind_of(request)
        submission = services.submit(
            bodies.read(request, limit=bodies.MAX_BYTES[kind]),
            content_type=kind,
            owner=caller(request),
            idempotency_key=_key(request),
        )
        if not submission.created:
            return submitted(submission.task, message="submitted before", status=200)
        return submitted(submission.task, message="submitted", status=201)


class Validate(APIView):
    """Where workflows can be tried without consequences."""

    parser_classes = [bodies.Unread]

    @extend_schema(
        operation_id="validate",
        request={bodies.JSON: OpenApiTypes.OBJECT, bodies.YAML: OpenApiTypes.OBJECT},
        examples=[OpenApiExample("A workflow", value=EXAMPLE, request_only=True)],
        responses={200: serializers.VerdictShape, **failures(400, 403, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """Check a workflow as `POST /api/train` would, and make nothing of it."""
        kind = bodies.kind_of(request)
        body = bodies.read(request, limit=bodies.MAX_BYTES[kind])
        verdict = preflight.check(body, content_type=kind)
        told = {
            "valid": verdict.workflow is not None,
            "faults": [fault.as_dict() for fault in verdict.faults],
            "warnings": [warning.as_dict() for warning in verdict.warnings],
            "estimate": verdict.estimate.as_dict() if verdict.estimate else None,
        }
        return Response(told)


def submitted(task: TrainingTask, *, message: str, status: int) -> Response:
    """The answer to a submission or a retry."""
    told = {
        "task_id": task.id,
        "status": "success",
        "message": message,
        "task": task_to_wire(task),
        "warnings": task.warnings,
    }
    where = reverse("task", args=[task.id])
    return Response(told, status=status, headers={"Location": where})


def _key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise ValidationError(
            {"Idempotency-Key": "must be 1 to 128 visible ASCII characters, a UUID for one"}
        )
    return key

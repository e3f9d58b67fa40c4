"""Answers that never change: of a final task, known by their version, not sent twice."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

KNOWN = {304: OpenApiResponse(description="As the caller has it")}
"""For the schema of each call that may answer so."""


def unless_known(
    request: Request, version: str, build: Callable[[], Mapping[str, Any]]
) -> Response:
    """What `build` makes, with an ETag of version and query; 304 if the caller has just that.

    The caller asks again each time: the task may be deleted, or not be theirs any more.
    """
    asked = f"{version}?{request.META.get('QUERY_STRING', '')}"
    etag = f'"{hashlib.sha256(asked.encode()).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in request.headers.get("If-None-Match", ""):
        return Response(status=304, headers=headers)
    return Response(build(), headers=headers)

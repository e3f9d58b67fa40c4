"""Errors become answers here and nowhere else: one shape, stable codes.

{"error": {"code": "…", "message": "…", "fields": [{"path", "message", …}]}}
"""

import logging
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import (
    Http404,
    HttpRequest,
    HttpResponseBase,
    JsonResponse,
    UnreadablePostError,
)
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from training import errors
from training.sanitise import clean

log = logging.getLogger(__name__)

STATUS_OF: dict[type[errors.TrainingError], int] = {
    errors.InvalidConfig: status.HTTP_400_BAD_REQUEST,
    errors.InvalidCursor: status.HTTP_400_BAD_REQUEST,
    errors.TooLarge: status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    errors.NotFound: status.HTTP_404_NOT_FOUND,
    errors.AlreadyFinished: status.HTTP_409_CONFLICT,
    errors.NotFinished: status.HTTP_409_CONFLICT,
    errors.NotFitting: status.HTTP_409_CONFLICT,
    errors.NotAllowed: status.HTTP_403_FORBIDDEN,
    errors.Pinned: status.HTTP_409_CONFLICT,
    errors.IdempotencyConflict: status.HTTP_409_CONFLICT,
    errors.StoreAway: status.HTTP_503_SERVICE_UNAVAILABLE,
}
"""Errors of the core that a request can meet; others are our own mistakes, and a 500."""

_CODE_OF_REST = {"invalid": "invalid_request", "parse_error": "invalid_request"}


class NotReady(exceptions.APIException):
    """The platform can't do its work now; `missing` says what is wrong with which part."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "not_ready"

    def __init__(self, missing: dict[str, str]) -> None:
        super().__init__("Not ready: " + ", ".join(missing))
        self.missing = missing


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's exception handler; None leaves the error to `internal_error`."""
    error = _as_rest(error)
    if isinstance(error, errors.TrainingError):
        code = STATUS_OF.get(type(error))
        return Response(_told(error), status=code) if code else None
    response = exception_handler(error, context)
    if response is not None and isinstance(error, exceptions.APIException):
        response.data = _of_rest(error)
    return response


def body(code: str, message: str, fields: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """An error as clients get it: repaired like everything that a caller's text is part of."""
    told: dict[str, Any] = {"code": code, "message": message}
    if fields:
        told["fields"] = fields
    return {"error": clean(told)}


def _as_rest(error: Exception) -> Exception:
    """Django's own errors as those that say the same here."""
    if isinstance(error, RequestDataTooBig):
        return errors.TooLarge("The body is larger than this call takes")
    if isinstance(error, SuspiciousOperation | UnreadablePostError):
        return exceptions.ParseError("The request could not be read")
    if isinstance(error, Http404):
        return errors.NotFound("There is nothing here")
    return error


def _told(error: errors.TrainingError) -> dict[str, Any]:
    faults = error.faults if isinstance(error, errors.InvalidConfig) else ()
    return body(error.code, error.message, [fault.as_dict() for fault in faults])


def _of_rest(error: exceptions.APIException) -> dict[str, Any]:
    if isinstance(error, exceptions.ValidationError):
        fields = list(_fields(error.detail))
        return body("invalid_request", _sentence(fields), fields)
    if isinstance(error, NotReady):
        parts = [{"path": part, "message": why} for part, why in error.missing.items()]
        return body("not_ready", str(error.detail), parts)
    code = str(error.get_codes())
    message = str(error.detail)
    if message.startswith("CSRF Failed"):
        code = "csrf_failed"
    return body(_CODE_OF_REST.get(code, code), message)


def _fields(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    """The framework's nested faults, flat: one for each message."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _fields(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _fields(inner, path)
    else:
        yield {"path": path, "message": str(detail)}


def _sentence(fields: list[dict[str, str]]) -> str:
    first = fields[0]
    return f"{first['path']}: {first['message']}" if first["path"] else first["message"]


# ── Where no API view was reached, or one broke ─────────────────────────────────────────


def internal_error(request: HttpRequest) -> HttpResponseBase:
    """The site's handler500. The traceback is in the server's log, not in the answer."""
    if not _is_api(request):
        return defaults.server_error(request)
    message = "Something broke on our side; the server's log has the details"
    return JsonResponse(body("internal_error", message), status=500)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """The site's handler400: what Django itself refuses, an unknown host for one."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return JsonResponse(body("invalid_request", "The request can't be served"), status=400)


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(("/api", "/healthz", "/readyz", "/metrics"))

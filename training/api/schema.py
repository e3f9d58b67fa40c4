"""OpenAPI: how callers sign in, which errors a call has, the schema itself and its page."""

from pathlib import Path

import drf_spectacular_sidecar
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from .errors import body
from .serializers import ErrorShape

_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_ASSETS_DIR = (
    Path(drf_spectacular_sidecar.__file__).parent / "static/drf_spectacular_sidecar/swagger-ui-dist"
)
_MEANING = {
    400: ("invalid_request", "A parameter, a header or the body is wrong"),
    401: ("not_authenticated", "Nobody is signed in, or the token is not valid"),
    403: ("csrf_failed", "A session's request came without its CSRF token"),
    404: ("not_found", "There is no such thing, or it is not yours"),
    409: ("already_finished", "The task is not in a state for this"),
    413: ("too_large", "The body is over the limits"),
    415: ("unsupported_media_type", "The body is neither JSON nor YAML"),
    416: ("", "The file has no such bytes"),
    503: ("not_ready", "Something that the platform needs is missing"),
}


def failures(*statuses: int) -> dict[int, OpenApiResponse]:
    """The error answers of a call; 401 always."""
    return {status: _failure(status) for status in (401, *statuses)}


def _failure(status: int) -> OpenApiResponse:
    code, meaning = _MEANING[status]
    if not code:
        return OpenApiResponse(description=meaning)
    example = OpenApiExample(code, value=body(code, meaning), response_only=True)
    return OpenApiResponse(ErrorShape, description=meaning, examples=[example])


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Bearer …`, said in the schema."""

    target_class = "training.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class Schema(SpectacularAPIView):
    """The OpenAPI document, as JSON."""

    renderer_classes = [JSONRenderer]
    permission_classes = [IsAuthenticated]


class Docs(SpectacularSwaggerSplitView):
    """The schema as a page. It asks nothing of any other server."""

    permission_classes = [IsAuthenticated]

    def handle_exception(self, exc: Exception) -> Response:
        """Errors are JSON, here too."""
        renderer = JSONRenderer()
        self.request.accepted_renderer = renderer
        self.request.accepted_media_type = renderer.media_type
        return super().handle_exception(exc)

    @staticmethod
    def _swagger_ui_resource(filename: str) -> str:
        return reverse("docs-asset", args=[filename])

    @staticmethod
    def _swagger_ui_favicon() -> str:
        return reverse("docs-asset", args=["favicon-32x32.png"])


def docs_asset(request: HttpRequest, name: str) -> HttpResponse:
    """A file of the page: style, script or icon, the same for everybody."""
    if name not in _ASSETS:
        return JsonResponse(body("not_found", "There is no such file"), status=404)
    return HttpResponse(
        (_ASSETS_DIR / name).read_bytes(),
        content_type=_ASSETS[name],
        headers={"Cache-Control": "public, max-age=86400"},
    )

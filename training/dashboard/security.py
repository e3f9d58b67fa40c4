"""What a page may load and do: its own scripts and styles, its own server, nothing else.

And what may not reach a page at all.
"""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class ContentSecurityPolicy:
    """Middleware: every answer carries the policy, unless it has one of its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class NoNul:
    """Middleware: an address of a page with a NUL in it is refused; the API names the parameter.

    PostgreSQL takes none in a text, so each view that compares one would break.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_view(self, request: HttpRequest, *_: object) -> None:
        """Raises: BadRequest."""
        path, query = request.path_info, request.META.get("QUERY_STRING", "")
        if not path.startswith("/api") and ("\x00" in path or "%00" in query):
            raise BadRequest("a NUL in the address")

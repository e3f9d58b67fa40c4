"""Reading a request's body: its kind and its size are checked before any of it is parsed."""

from typing import IO, Any

from django.http.request import UnreadablePostError
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from training.errors import TooLarge

JSON = "application/json"
YAML = "application/yaml"
KINDS = {
    JSON: JSON,
    YAML: YAML,
    "text/yaml": YAML,
    "application/x-yaml": YAML,
    "text/x-yaml": YAML,
}
MAX_BYTES = {JSON: 1024 * 1024, YAML: 128 * 1024}
_CHARSETS = {"", "utf-8", "utf8", "us-ascii"}


class Unread(BaseParser):
    """Leaves the body where it is, whatever it is.

    The check of a session's CSRF token asks for the parsed body, and would else read and
    parse it before any limit.
    """

    media_type = "*/*"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> dict[str, Any]:
        return {}


def kind_of(request: Request) -> str:
    """`application/json` or `application/yaml`. Raises: UnsupportedMediaType."""
    said, _, parameters = request.headers.get("content-type", "").partition(";")
    media_type = said.strip().lower() or JSON
    kind = KINDS.get(media_type)
    if kind is None:
        raise UnsupportedMediaType(
            media_type, f"A workflow is {JSON} or {YAML}, not {media_type[:100]!r}"
        )
    if _charset(parameters) not in _CHARSETS:
        raise UnsupportedMediaType(media_type, "A workflow is sent as UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType(media_type, "A workflow is sent without Content-Encoding")
    return kind


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return ""


def read(request: Request, *, limit: int) -> bytes:
    """The whole body. Raises: TooLarge, by what the request says or by what is counted."""
    try:
        said = int(request.headers.get("content-length") or 0)
    except ValueError:
        raise ParseError("Content-Length is not a number") from None
    if said > limit:
        raise TooLarge(f"The body has {said:,} bytes; at most {limit:,} are taken")
    try:
        whole: bytes = request._request.read(limit + 1)
    except UnreadablePostError:
        raise ParseError("The body ended early") from None
    if len(whole) > limit:
        raise TooLarge(f"The body has more than {limit:,} bytes, the most that are taken")
    return whole
